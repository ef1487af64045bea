"""Load the checkpoint to export: a native or published file, its address, or an open_clip name and tag."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import open_clip

from export.errors import ExportInputError
from export.templates import GENERAL_VIDEO_TEMPLATES
from serve.files import file_sha256
from serve.text.prompts import check_templates
from serve.text.tokenizer import clip_tokenizer_json
from training.checkpoints.downloads import DEFAULT_CACHE, fetch_address, is_address
from training.checkpoints.native_format import Checkpoint
from training.checkpoints.open_clip_architectures import has_clip_tokenizer, sampling_rule
from training.checkpoints.open_clip_weights import fetch_weights, load_weights
from training.checkpoints.overrides import Overrides
from training.checkpoints.published_weights import Activation, published_tags
from training.checkpoints.reading import clip_checkpoint, read_checkpoint
from training.checkpoints.tokenizer_files import with_tokenizer_file
from training.models.open_clip_towers import architecture

MERGES = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"


def from_file(source: str | Path, overrides: Overrides | None = None, *, cache: Path = DEFAULT_CACHE) -> Checkpoint:
    """Load a checkpoint from a file or folder that `read_checkpoint` supports, or from an http(s) address.

    Raises:
        DownloadError: the address cannot be downloaded.
        CheckpointError: its format is unknown, its weights do not fit, or the overrides contradict it.
    """
    if isinstance(source, Path) or not is_address(source):
        return read_checkpoint(Path(source), overrides=overrides)
    fetched = fetch_address(source, cache=cache)
    checkpoint = read_checkpoint(fetched.path, overrides=overrides)
    return replace(checkpoint, provenance={**checkpoint.provenance, "source": fetched.remote.address})


def from_published(arch: str, tag: str, *, num_frames: int, cache: Path = DEFAULT_CACHE) -> Checkpoint:
    """Load the frame-averaged model of weights that open_clip publishes; download them if not cached.

    Raises:
        CheckpointError: open_clip has no such tag, or its file does not fit.
        ModelConfigError: open_clip has no such architecture, or its towers are not supported.
        DownloadError: the weights cannot be downloaded.
    """
    fetched = fetch_weights(arch, tag, cache=cache)
    overrides = replace(_overrides(arch, tag, num_frames=num_frames), tag=tag)
    provenance = {
        "source": fetched.remote.address,
        "revision": fetched.remote.revision,
        "sha256": file_sha256(fetched.path),
        "format": "open_clip",
        "overrides": {"arch": arch, "tag": tag},
    }
    return clip_checkpoint(load_weights(arch, fetched.path), overrides=overrides, provenance=provenance)


def from_open_clip_file(
    arch: str,
    path: Path,
    *,
    num_frames: int,
    preprocess_tag: str | None = None,
    activation: Activation | None = None,
    weights_key: str | None = None,
) -> Checkpoint:
    """Load the frame-averaged model of a weight file of an open_clip architecture.

    `preprocess_tag` is the pretrained tag that the weights derive from; `activation` and `weights_key` give what
    neither the file nor its origin determines.

    Raises:
        ExportInputError: there is no such file.
        CheckpointError: the weights do not fit the architecture, or their activation or preprocessing is unknown.
        ModelConfigError: open_clip has no such architecture.
    """
    architecture(arch)
    if path.is_dir():
        raise ExportInputError(f"{path} is a folder: use `import-checkpoint`, which reads its configuration")
    if not path.is_file():
        tags = ", ".join(published_tags(arch)) or "none"
        raise ExportInputError(f"{str(path)!r} is neither a file nor a pretrained tag of {arch}; its tags: {tags}")
    overrides = replace(
        _overrides(arch, path.name, num_frames=num_frames),
        tag=preprocess_tag,
        activation=activation,
        weights_key=weights_key,
    )
    return read_checkpoint(path, overrides=overrides)


def _overrides(arch: str, weights: str, *, num_frames: int) -> Overrides:
    return Overrides(
        family="clip",
        arch=arch,
        num_frames=num_frames,
        sampling_rule=sampling_rule(arch),
        templates=GENERAL_VIDEO_TEMPLATES,
        card=f"open_clip {arch}, {weights}: frames are encoded one by one and averaged; it does not see motion.",
    )


def override(checkpoint: Checkpoint, *, templates: Sequence[str] | None, tokenizer: Path | None) -> Checkpoint:
    """Return the checkpoint with the caller's templates and tokenizer file.

    Raises:
        InvalidVocabulary: a template does not have exactly one `{}`.
        CheckpointError: the tokenizer file cannot be read, or lacks a token that the model needs.
    """
    text = checkpoint.text
    if templates:
        text = replace(text, templates=check_templates(templates))
    if tokenizer is not None:
        text = with_tokenizer_file(text, tokenizer)
    return replace(checkpoint, text=text)


def tokenizer_bytes(checkpoint: Checkpoint, tokenizer: Path | None) -> bytes:
    """Return the content of the served tokenizer.json: the caller's file, or CLIP's tokenizer.

    Raises:
        ExportError: the model's tokenizer is not CLIP's and no file was given, or it cannot be read.
    """
    if tokenizer is not None:
        try:
            return tokenizer.read_bytes()
        except OSError as error:
            raise ExportInputError(f"the tokenizer file {tokenizer} cannot be read: {error}") from error
    arch = checkpoint.model_config["text"].get("arch")
    if checkpoint.text.tokenizer != "clip" or (arch is not None and not has_clip_tokenizer(arch)):
        raise ExportInputError(
            f"the tokenizer of {arch or 'this model'} is not CLIP's: give its tokenizer.json with --tokenizer"
        )
    return clip_tokenizer_json(MERGES).encode()
