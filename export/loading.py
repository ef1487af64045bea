"""Load the checkpoint to export: a checkpoint file, a URL, or an open_clip architecture and pretrained tag."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import open_clip

from export.errors import ExportInputError
from export.templates import GENERAL_VIDEO_TEMPLATES
from serve.files import file_sha256
from serve.text.prompts import check_templates
from serve.text.tokenizer import clip_tokenizer_json
from training.checkpoints.downloads import DEFAULT_CACHE, fetch_url, is_url
from training.checkpoints.native_format import Checkpoint
from training.checkpoints.open_clip_architectures import has_clip_tokenizer, sampling_rule
from training.checkpoints.open_clip_weights import fetch_weights, load_weights
from training.checkpoints.overrides import Overrides
from training.checkpoints.published_weights import Activation, published_tags
from training.checkpoints.reading import clip_checkpoint, read_checkpoint
from training.checkpoints.tokenizer_files import apply_tokenizer_file
from training.models.open_clip_towers import architecture_config

MERGES_FILE = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"


def load_source(source: str | Path, overrides: Overrides | None = None, *, cache: Path = DEFAULT_CACHE) -> Checkpoint:
    """Load a checkpoint from a URL, or from a file or folder that `read_checkpoint` supports.

    Raises:
        DownloadError: the download fails.
        CheckpointError: the format is unknown, the weights do not match the architecture, or overrides contradict the
            file.
    """
    if isinstance(source, Path) or not is_url(source):
        return read_checkpoint(Path(source), overrides=overrides)
    fetched = fetch_url(source, cache=cache)
    checkpoint = read_checkpoint(fetched.path, overrides=overrides)
    return replace(checkpoint, provenance={**checkpoint.provenance, "source": fetched.remote.url})


def load_published(arch: str, tag: str, *, num_frames: int, cache: Path = DEFAULT_CACHE) -> Checkpoint:
    """Load pretrained open_clip weights as a frame-averaging model, downloading them if they are not cached.

    Raises:
        CheckpointError: open_clip has no such tag, or the weights do not match the architecture.
        ModelConfigError: open_clip has no such architecture, or its towers are not supported.
        DownloadError: the weights cannot be downloaded.
    """
    fetched = fetch_weights(arch, tag, cache=cache)
    overrides = replace(_overrides(arch, tag, num_frames=num_frames), tag=tag)
    provenance = {
        "source": fetched.remote.url,
        "revision": fetched.remote.revision,
        "sha256": file_sha256(fetched.path),
        "format": "open_clip",
        "overrides": {"arch": arch, "tag": tag},
    }
    return clip_checkpoint(load_weights(arch, fetched.path), overrides=overrides, provenance=provenance)


def load_open_clip_file(
    arch: str,
    path: Path,
    *,
    num_frames: int,
    preprocess_tag: str | None = None,
    activation: Activation | None = None,
    weights_key: str | None = None,
) -> Checkpoint:
    """Load a file of open_clip weights as a frame-averaging model.

    `preprocess_tag` is the pretrained tag of the original weights. `activation` and `weights_key` are needed only if
    they cannot be determined from the file or from `preprocess_tag`.

    Raises:
        ExportInputError: the file does not exist.
        CheckpointError: the weights do not match the architecture, or their activation or preprocessing is unknown.
        ModelConfigError: open_clip has no such architecture.
    """
    architecture_config(arch)
    if path.is_dir():
        raise ExportInputError(f"{path} is a folder; use `import-checkpoint`, which reads its configuration")
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


def _overrides(arch: str, source_name: str, *, num_frames: int) -> Overrides:
    return Overrides(
        family="clip",
        arch=arch,
        num_frames=num_frames,
        sampling_rule=sampling_rule(arch),
        templates=GENERAL_VIDEO_TEMPLATES,
        card=f"open_clip {arch}, {source_name}: frames are encoded separately and averaged; motion is not recognised.",
    )


def apply_options(checkpoint: Checkpoint, *, templates: Sequence[str] | None, tokenizer: Path | None) -> Checkpoint:
    """Return the checkpoint with the given templates and tokenizer file.

    Raises:
        InvalidVocabulary: a template does not contain exactly one `{}`.
        CheckpointError: the tokenizer file cannot be read, or has no token that the model needs.
    """
    text = checkpoint.text
    if templates:
        text = replace(text, templates=check_templates(templates))
    if tokenizer is not None:
        text = apply_tokenizer_file(text, tokenizer)
    return replace(checkpoint, text=text)


def read_tokenizer(checkpoint: Checkpoint, tokenizer: Path | None) -> bytes:
    """Return the content of the tokenizer.json to publish: that of the given file, or CLIP's tokenizer.

    Raises:
        ExportInputError: the model does not use CLIP's tokenizer and no file was given, or the file cannot be read.
    """
    if tokenizer is not None:
        try:
            return tokenizer.read_bytes()
        except OSError as error:
            raise ExportInputError(f"cannot read the tokenizer file {tokenizer}: {error}") from error
    arch = checkpoint.model_config["text"].get("arch")
    if checkpoint.text.tokenizer != "clip" or (arch is not None and not has_clip_tokenizer(arch)):
        raise ExportInputError(
            f"{arch or 'this model'} does not use CLIP's tokenizer; give its tokenizer.json with --tokenizer"
        )
    return clip_tokenizer_json(MERGES_FILE).encode()
