"""Where an export starts: a checkpoint of ours, a published file, or a name and tag of open_clip."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import open_clip
import torch

from export.errors import ExportError
from export.openclip_config import (
    find_weights,
    has_clip_tokenizer,
    preprocess_contract,
    sampling_rule,
    square_image_size,
)
from export.templates import GENERAL_VIDEO_TEMPLATES
from serve.text.prompts import check_templates
from serve.text.tokenizer import clip_tokenizer_json
from training.checkpoints.overrides import Overrides
from training.checkpoints.own import Checkpoint
from training.checkpoints.reading import read_checkpoint

MERGES = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"


def from_file(path: Path, overrides: Overrides | None = None) -> Checkpoint:
    """A checkpoint from any file or folder that `read_checkpoint` understands.

    Raises:
        CheckpointError: it is of no known kind, its weights do not fit, or the overrides contradict it.
    """
    return read_checkpoint(path, overrides=overrides)


def from_open_clip(arch: str, pretrained: str, *, num_frames: int, preprocess_tag: str | None) -> Checkpoint:
    """The frame-averaged model of an open_clip architecture, with the preprocessing its weights were trained with.

    Raises:
        ExportError: open_clip knows no such name or tag, or cannot fetch it.
        CheckpointError: the weights do not fit the architecture.
    """
    weights = find_weights(arch, pretrained, preprocess_tag=preprocess_tag)
    overrides = Overrides(
        family="clip",
        arch=arch,
        num_frames=num_frames,
        activation="quick_gelu" if weights.quick_gelu else "gelu",
        preprocess=preprocess_contract(weights.preprocess, image_size=square_image_size(arch)),
        sampling_rule=sampling_rule(arch),
        templates=GENERAL_VIDEO_TEMPLATES,
        card=f"open_clip {arch}, {pretrained}: frames are encoded one by one and averaged; it does not see motion.",
    )
    if weights.is_file:
        return read_checkpoint(Path(pretrained), overrides=overrides)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pt"
        try:
            torch.save(open_clip.create_model(arch, pretrained=pretrained).state_dict(), path)
        except Exception as error:  # the hub's client raises a family of its own
            raise ExportError(
                f"the weights {pretrained} of {arch} cannot be fetched: {error}; "
                "a file of them works too: --pretrained FILE"
            ) from error
        return read_checkpoint(path, overrides=overrides)


def override(checkpoint: Checkpoint, *, templates: Sequence[str] | None, tokenizer: Path | None) -> Checkpoint:
    """The checkpoint with templates of the caller; a tokenizer file makes its text of the `tokenizers` kind.

    Raises:
        InvalidVocabulary: a template without exactly one `{}`.
    """
    text = checkpoint.text
    if templates:
        text = replace(text, templates=check_templates(templates))
    if tokenizer is not None:
        text = replace(text, tokenizer="tokenizers")
    return replace(checkpoint, text=text)


def tokenizer_bytes(checkpoint: Checkpoint, tokenizer: Path | None) -> bytes:
    """Content of the served tokenizer.json: the caller's file, or CLIP's own.

    Raises:
        ExportError: the model's tokenizer is not CLIP's and no file was given, or it cannot be read.
    """
    if tokenizer is not None:
        try:
            return tokenizer.read_bytes()
        except OSError as error:
            raise ExportError(f"the tokenizer file {tokenizer} cannot be read: {error}") from error
    arch = checkpoint.model_config["text"].get("arch")
    if checkpoint.text.tokenizer != "clip" or (arch is not None and not has_clip_tokenizer(arch)):
        raise ExportError(
            f"the tokenizer of {arch or 'this model'} is not CLIP's: give its tokenizer.json with --tokenizer"
        )
    return clip_tokenizer_json(MERGES).encode()
