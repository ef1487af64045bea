"""Where an export starts: a checkpoint of ours, a published file, or a name and tag of open_clip."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import open_clip
import torch

from export.errors import ExportError
from export.templates import GENERAL_VIDEO_TEMPLATES
from serve.text.prompts import check_templates
from serve.text.tokenizer import clip_tokenizer_json
from training.checkpoints.open_clip_architectures import has_clip_tokenizer, sampling_rule
from training.checkpoints.overrides import Overrides
from training.checkpoints.own import Checkpoint
from training.checkpoints.published_weights import Activation, published_tags
from training.checkpoints.reading import read_checkpoint
from training.checkpoints.tokenizer_files import with_tokenizer_file
from training.models.open_clip_towers import architecture

MERGES = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"


def from_file(path: Path, overrides: Overrides | None = None) -> Checkpoint:
    """A checkpoint from any file or folder that `read_checkpoint` understands.

    Raises:
        CheckpointError: it is of no known kind, its weights do not fit, or the overrides contradict it.
    """
    return read_checkpoint(path, overrides=overrides)


def from_open_clip(
    arch: str,
    pretrained: str,
    *,
    num_frames: int,
    preprocess_tag: str | None = None,
    activation: Activation | None = None,
    weights_key: str | None = None,
) -> Checkpoint:
    """The frame-averaged model of an open_clip architecture, with the preprocessing its weights were trained with.

    `pretrained` is a tag or a file of weights; then `preprocess_tag` is the tag that those derive from, and
    `activation` and `weights_key` say what neither the file nor its origin does.

    Raises:
        ExportError: open_clip knows no such tag, or cannot fetch it.
        CheckpointError: the weights do not fit the architecture, or their activation or preprocessing is not known.
        ModelConfigError: open_clip knows no such architecture.
    """
    architecture(arch)
    tags = published_tags(arch)
    is_tag = pretrained in tags
    if not is_tag and Path(pretrained).is_dir():
        raise ExportError(f"{pretrained} is a folder: `import-checkpoint` reads it, its configuration names what it is")
    if not is_tag and not Path(pretrained).is_file():
        raise ExportError(
            f"{pretrained!r} is neither a file nor a pretrained tag of {arch}; its tags: {', '.join(tags) or 'none'}"
        )
    of_files = {"--preprocess-tag": preprocess_tag, "--activation": activation, "--weights-key": weights_key}
    if is_tag and (given := [name for name, value in of_files.items() if value is not None]):
        raise ExportError(f"{', '.join(given)}: for a file of weights, but {pretrained!r} is a pretrained tag")
    overrides = Overrides(
        family="clip",
        arch=arch,
        num_frames=num_frames,
        tag=pretrained if is_tag else preprocess_tag,
        activation=activation,
        weights_key=weights_key,
        sampling_rule=sampling_rule(arch),
        templates=GENERAL_VIDEO_TEMPLATES,
        card=f"open_clip {arch}, {pretrained}: frames are encoded one by one and averaged; it does not see motion.",
    )
    if not is_tag:
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
        CheckpointError: the tokenizer file cannot be read, or lacks a token that the model needs.
    """
    text = checkpoint.text
    if templates:
        text = replace(text, templates=check_templates(templates))
    if tokenizer is not None:
        text = with_tokenizer_file(text, tokenizer)
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
