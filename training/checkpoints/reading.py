"""Read a checkpoint file or folder of any supported format: detect the format, read it, and check every key.

checkpoint = read_checkpoint(Path("k400_vit_b16_8f.pth"))
model = checkpoint.build()
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from serve.files import file_sha256
from training.checkpoints.actionclip_files import (
    is_mmaction_actionclip,
    is_official_actionclip,
    read_mmaction_actionclip,
    read_official_actionclip,
)
from training.checkpoints.clip_files import is_clip, read_clip
from training.checkpoints.clip_folders import (
    detect_folder_kind,
    read_open_clip_folder,
    read_transformers_clip,
    weight_names,
)
from training.checkpoints.file_kinds import INDEX_SUFFIX, detect_file_kind
from training.checkpoints.foreign_files import read_document, require_tensors
from training.checkpoints.hugging_face import read_hugging_face
from training.checkpoints.layouts import StateDict, find_weights
from training.checkpoints.names import rename_weights, to_official
from training.checkpoints.native_format import (
    Checkpoint,
    CheckpointError,
    as_float32,
    build_on_meta,
    check_weights,
    is_native,
    parse_checkpoint,
    weight_shapes,
)
from training.checkpoints.origins import OPENAI_METADATA_KEYS, detect_origin
from training.checkpoints.overrides import Overrides, make_overrides
from training.checkpoints.xclip_files import is_xclip, read_official_xclip

Format = Literal[
    "native",
    "actionclip",
    "actionclip_mmaction",
    "xclip",
    "xclip_hugging_face",
    "clip",
    "clip_torchscript",
    "clip_hugging_face",
    "clip_open_clip_folder",
]

UNIVERSAL_OVERRIDES = frozenset({"preprocess", "sampling_rule", "templates", "labels", "card"})
_TOWER_OVERRIDES = frozenset({"num_frames", "vision_heads", "text_heads", "activation"})
_XCLIP_OVERRIDES = _TOWER_OVERRIDES | {"mit_heads", "prompt_heads"}
_CLIP_OVERRIDES = _XCLIP_OVERRIDES | {
    "family", "fusion", "prompts", "arch", "tag", "seed", "weights_key"
}  # fmt: skip
SUPPORTED_OVERRIDES: Mapping[Format, frozenset[str]] = {
    "native": frozenset(),
    "actionclip": _TOWER_OVERRIDES | {"fusion"},
    "actionclip_mmaction": _TOWER_OVERRIDES | {"fusion"},
    "xclip": _XCLIP_OVERRIDES | {"weights_key"},
    "xclip_hugging_face": _XCLIP_OVERRIDES - {"activation"},
    "clip": _CLIP_OVERRIDES,
    "clip_torchscript": _CLIP_OVERRIDES - {"weights_key"},
    "clip_hugging_face": _CLIP_OVERRIDES - {"weights_key"},
    "clip_open_clip_folder": _CLIP_OVERRIDES,
}
TRANSFORMERS_PREFIXES = ("text_model.", "vision_model.")  # of names in CLIP-like models of transformers


@dataclass(frozen=True, kw_only=True)
class _OpenedCheckpoint:
    """A checkpoint whose format was detected, before its weights are interpreted."""

    kind: Format
    path: Path  # the weight file, or the folder
    document: Any = None  # content of the weight file; None for folders
    file: Path | None = None  # selected weight file in a folder


def detect_format(path: Path) -> Format:
    """Return the format of a checkpoint, detected from its content.

    Raises:
        FileNotFoundError: the path does not exist.
        CheckpointError: the format is unknown; the message says what was found and what to do.
    """
    return _open(path).kind


def read_checkpoint(path: Path, *, overrides: Overrides | Mapping[str, Any] | None = None) -> Checkpoint:
    """Read a checkpoint of any supported format; weights are converted to float32, and every key is checked.

    Raises:
        FileNotFoundError: the path does not exist.
        CheckpointError: the format is unknown, keys or shapes differ (the message lists them), the activation cannot be
            determined, or overrides contradict the file.
        ModelConfigError: the sizes are invalid, e.g. a width that is not a multiple of the heads.
    """
    checked_overrides = make_overrides(overrides)
    opened = _open(path)
    unsupported = sorted(set(checked_overrides.to_dict()) - UNIVERSAL_OVERRIDES - SUPPORTED_OVERRIDES[opened.kind])
    if unsupported:
        raise CheckpointError(
            f"overrides: {', '.join(unsupported)} cannot be given for a checkpoint of the format {opened.kind}"
        )
    checkpoint = _READERS[opened.kind](opened, checked_overrides)
    if opened.kind == "native":
        _check_keys(checkpoint, lambda name: name)
        return _with_overrides(checkpoint, checked_overrides)
    return _with_provenance(checkpoint, checked_overrides, _provenance(path, opened, checked_overrides))


def clip_checkpoint(
    weights: Mapping[str, Tensor], *, overrides: Overrides, provenance: Mapping[str, Any]
) -> Checkpoint:
    """Create a checkpoint from CLIP weights in memory, with OpenAI's or open_clip's names.

    Raises:
        CheckpointError, ModelConfigError: see `read_checkpoint`.
    """
    return _with_provenance(read_clip(weights, overrides), overrides, provenance)


def _with_provenance(checkpoint: Checkpoint, overrides: Overrides, provenance: Mapping[str, Any]) -> Checkpoint:
    """Return a third-party checkpoint with float32 weights, the overrides applied and its origin recorded."""
    _check_keys(checkpoint, to_official)
    provenance = {**provenance, **checkpoint.provenance}
    converted = replace(checkpoint, weights=_as_float32(checkpoint.weights), provenance=provenance)
    return _with_overrides(converted, overrides)


def _check_keys(checkpoint: Checkpoint, rename: Callable[[str], str]) -> None:
    """Check names and shapes of the weights; `rename` converts names for messages."""
    check_weights(
        rename_weights(weight_shapes(build_on_meta(checkpoint.family, checkpoint.model_config)), rename),
        rename_weights(checkpoint.weights, rename),
    )


def _open(path: Path) -> _OpenedCheckpoint:
    if path.is_dir():
        return _open_folder(path, None)
    if not path.is_file():
        raise FileNotFoundError(f"no file or folder at {path}")
    if path.name.endswith(INDEX_SUFFIX) or path.name in weight_names("clip_open_clip_folder"):
        folder = _open_folder_of(path)
        if folder is not None:
            return folder
    document = read_document(path)
    kind = _detect_document(path, document)
    if kind is None:
        raise CheckpointError(f"{path}: {_describe_document(document)}")
    return _OpenedCheckpoint(kind=kind, path=path, document=document)


def _open_folder(path: Path, file: Path | None) -> _OpenedCheckpoint:
    kind = detect_folder_kind(path)
    if kind is not None:
        return _OpenedCheckpoint(kind=kind, path=path, file=file)
    raise CheckpointError(f"{path}: {_describe_folder(path)}")


def _open_folder_of(file: Path) -> _OpenedCheckpoint | None:
    """Return the model folder of a weight file, if its name and a configuration next to it indicate one, else None."""
    kind = detect_folder_kind(file.parent) if (file.parent / "config.json").is_file() else None
    kind = "clip_open_clip_folder" if (file.parent / "open_clip_config.json").is_file() else kind
    stem = file.name.removesuffix(INDEX_SUFFIX)
    if kind is None or stem not in weight_names(kind):
        return None
    return _OpenedCheckpoint(kind=kind, path=file.parent, file=file)


def _detect_document(path: Path, document: Any) -> Format | None:
    if is_native(document):
        return "native"
    if is_official_actionclip(document):
        return "actionclip"
    if is_mmaction_actionclip(document):
        return "actionclip_mmaction"
    if find_weights(document, is_xclip) is not None:
        return "xclip"
    if find_weights(document, is_clip) is not None:
        return "clip_torchscript" if detect_file_kind(path) == "torchscript" else "clip"
    return None


def _describe_document(document: Any) -> str:
    """Describe a document of an unknown format, for an error message."""
    if find_weights(document, lambda names: any(name.startswith(TRANSFORMERS_PREFIXES) for name in names)) is not None:
        return (
            "weights of a transformers model, whose numbers of heads and activation are in config.json; "
            "pass the folder that contains both"
        )
    if isinstance(document, Mapping):
        content = ", ".join(sorted(map(str, document))[:12]) or "nothing"
    else:
        content = type(document).__name__
    return f"the format of the checkpoint is unknown; it contains {content}"


def _describe_folder(path: Path) -> str:
    """Describe a folder without a supported configuration, for an error message."""
    names = sorted(entry.name for entry in path.iterdir())
    if any(name.endswith(".distcp") for name in names):
        return "a sharded checkpoint of torch.distributed; merge it with torch.distributed.checkpoint.format_utils"
    if "zero_to_fp32.py" in names:
        return "a sharded checkpoint of DeepSpeed; merge it with its zero_to_fp32.py and pass the resulting file"
    content = ", ".join(names[:8]) or "nothing"
    return (
        "a model folder must contain open_clip_config.json, or config.json of a CLIP or X-CLIP of transformers, "
        f"and the weights; this folder contains {content}. To read a single weight file, pass its path"
    )


def _read_clip_document(opened: _OpenedCheckpoint, overrides: Overrides) -> Checkpoint:
    state_dict = find_weights(opened.document, is_clip, key=overrides.weights_key)
    assert state_dict is not None, "the format was detected from the weights"
    is_archive = opened.kind == "clip_torchscript"
    origin = detect_origin(file_sha256(opened.path), opened.document, is_archive=is_archive)
    weights = {
        name: item for name, item in state_dict.weights.items() if not is_archive or name not in OPENAI_METADATA_KEYS
    }
    checkpoint = read_clip(require_tensors(weights, state_dict.key or "the file"), overrides, origin)
    return _with_weights_key(checkpoint, state_dict)


def _read_xclip(opened: _OpenedCheckpoint, overrides: Overrides) -> Checkpoint:
    state_dict = find_weights(opened.document, is_xclip, key=overrides.weights_key)
    assert state_dict is not None, "the format was detected from the weights"
    return _with_weights_key(read_official_xclip(opened.document, overrides), state_dict)


def _with_weights_key(checkpoint: Checkpoint, state_dict: StateDict) -> Checkpoint:
    """Record in the provenance which of several state dicts in the file was read."""
    if not state_dict.others:
        return checkpoint
    record = {"weights_key": state_dict.key, "other_weights": list(state_dict.others)}
    return replace(checkpoint, provenance={**checkpoint.provenance, **record})


def _read_transformers_clip(opened: _OpenedCheckpoint, overrides: Overrides) -> Checkpoint:
    weights, origin = read_transformers_clip(opened.path, opened.file)
    return read_clip(weights, overrides, origin)


def _read_open_clip_folder(opened: _OpenedCheckpoint, overrides: Overrides) -> Checkpoint:
    document, origin = read_open_clip_folder(opened.path, opened.file)
    state_dict = find_weights(document, is_clip, key=overrides.weights_key)
    if state_dict is None:
        raise CheckpointError(f"{opened.path}: {_describe_document(document)}")
    weights = require_tensors(state_dict.weights, str(opened.path))
    return _with_weights_key(read_clip(weights, overrides, origin), state_dict)


_READERS: Mapping[Format, Callable[[_OpenedCheckpoint, Overrides], Checkpoint]] = {
    "native": lambda opened, _: parse_checkpoint(opened.document),
    "actionclip": lambda opened, overrides: read_official_actionclip(opened.document, overrides),
    "actionclip_mmaction": lambda opened, overrides: read_mmaction_actionclip(opened.document, overrides),
    "xclip": _read_xclip,
    "xclip_hugging_face": lambda opened, overrides: read_hugging_face(opened.path, overrides, opened.file),
    "clip": _read_clip_document,
    "clip_torchscript": _read_clip_document,
    "clip_hugging_face": _read_transformers_clip,
    "clip_open_clip_folder": _read_open_clip_folder,
}


def _as_float32(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: as_float32(item) for name, item in weights.items()}


def _provenance(path: Path, opened: _OpenedCheckpoint, overrides: Overrides) -> dict[str, Any]:
    source = opened.file or opened.path
    if source.is_dir():
        names = weight_names("clip_open_clip_folder" if opened.kind == "clip_open_clip_folder" else "clip_hugging_face")
        source = next((path / name for name in names if (path / name).is_file()), path / "config.json")
    recorded = {name: value for name, value in overrides.to_dict().items() if name not in UNIVERSAL_OVERRIDES}
    return {"source": source.name, "sha256": file_sha256(source), "format": opened.kind, "overrides": recorded}


def _with_overrides(checkpoint: Checkpoint, overrides: Overrides) -> Checkpoint:
    changes: dict[str, Any] = {}
    if overrides.preprocess is not None:
        changes["preprocess"] = overrides.preprocess
    if overrides.sampling_rule is not None:
        changes["sampling"] = replace(checkpoint.sampling, rule=overrides.sampling_rule)
    if overrides.templates is not None:
        changes["text"] = replace(checkpoint.text, templates=overrides.templates)
    if overrides.labels is not None:
        changes["labels"] = overrides.labels
    if overrides.card is not None:
        changes["card"] = overrides.card
    return replace(checkpoint, **changes)
