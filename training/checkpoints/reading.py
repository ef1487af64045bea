"""Read a checkpoint file or folder of any supported format: detect the format, read it, check that every key fits.

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
    folder_kind,
    read_open_clip_folder,
    read_transformers_clip,
    weight_names,
)
from training.checkpoints.file_kinds import INDEX_SUFFIX, file_kind
from training.checkpoints.foreign_files import read_document, tensors_of
from training.checkpoints.hugging_face import read_hugging_face
from training.checkpoints.layouts import FoundWeights, find_weights
from training.checkpoints.names import renamed, to_official
from training.checkpoints.native_format import (
    Checkpoint,
    CheckpointError,
    as_float32,
    build_outline,
    checkpoint_of,
    is_native,
    require_fit,
    shapes_of,
)
from training.checkpoints.origins import OPENAI_NUMBERS, origin_of_file
from training.checkpoints.overrides import Overrides, make_overrides
from training.checkpoints.xclip_files import is_xclip, read_official_xclip

Format = Literal[
    "own",
    "actionclip",
    "actionclip_mmaction",
    "xclip",
    "xclip_hugging_face",
    "clip",
    "clip_torchscript",
    "clip_hugging_face",
    "clip_open_clip_folder",
]

ALWAYS_HONOURED = frozenset({"preprocess", "sampling_rule", "templates", "labels", "card"})
_TOWERS = frozenset({"num_frames", "vision_heads", "text_heads", "activation"})
_XCLIP = _TOWERS | {"mit_heads", "prompt_heads"}
_CLIP = _XCLIP | {"family", "fusion", "prompts", "arch", "tag", "seed", "weights_key"}
HONOURED: Mapping[Format, frozenset[str]] = {
    "own": frozenset(),
    "actionclip": _TOWERS | {"fusion"},
    "actionclip_mmaction": _TOWERS | {"fusion"},
    "xclip": _XCLIP | {"weights_key"},
    "xclip_hugging_face": _XCLIP - {"activation"},
    "clip": _CLIP,
    "clip_torchscript": _CLIP - {"weights_key"},
    "clip_hugging_face": _CLIP - {"weights_key"},
    "clip_open_clip_folder": _CLIP,
}
TRANSFORMERS_PARTS = ("text_model.", "vision_model.")  # in the names of its CLIP-like models


@dataclass(frozen=True, kw_only=True)
class _OpenedCheckpoint:
    """A checkpoint of a detected format, before it is read."""

    kind: Format
    path: Path  # the file of weights, or the folder
    document: Any = None
    file: Path | None = None  # the selected file of a folder


def detect_format(path: Path) -> Format:
    """Return the format of a checkpoint, detected by its content.

    Raises:
        FileNotFoundError: the path does not exist.
        CheckpointError: the format is unknown; the message says what was found and what to do.
    """
    return _open(path).kind


def read_checkpoint(path: Path, *, overrides: Overrides | Mapping[str, Any] | None = None) -> Checkpoint:
    """Read a checkpoint of any supported format; weights are float32, and every key is checked.

    Raises:
        FileNotFoundError: the path does not exist.
        CheckpointError: the format is unknown, keys or shapes differ (all named), the activation cannot be determined,
            or overrides contradict the file.
        ModelConfigError: the sizes do not make a model, e.g. heads that do not divide the width.
    """
    asked = make_overrides(overrides)
    opened = _open(path)
    ignored = sorted(set(asked.given()) - ALWAYS_HONOURED - HONOURED[opened.kind])
    if ignored:
        raise CheckpointError(
            f"overrides: {', '.join(ignored)} cannot be given for a checkpoint of the kind {opened.kind}"
        )
    checkpoint = _READERS[opened.kind](opened, asked)
    if opened.kind == "own":
        _require_fit(checkpoint, lambda name: name)
        return _with_overrides(checkpoint, asked)
    return _with_provenance(checkpoint, asked, _provenance(path, opened, asked))


def clip_checkpoint(
    weights: Mapping[str, Tensor], *, overrides: Overrides, provenance: Mapping[str, Any]
) -> Checkpoint:
    """Return the checkpoint of CLIP weights in memory, under OpenAI's or open_clip's names.

    Raises:
        CheckpointError, ModelConfigError: see `read_checkpoint`.
    """
    return _with_provenance(read_clip(weights, overrides), overrides, provenance)


def _with_provenance(checkpoint: Checkpoint, asked: Overrides, provenance: Mapping[str, Any]) -> Checkpoint:
    """Return a foreign checkpoint with weights in float32 and its origin in the provenance."""
    _require_fit(checkpoint, to_official)
    provenance = {**provenance, **checkpoint.provenance}
    return _with_overrides(replace(checkpoint, weights=_as_float32(checkpoint.weights), provenance=provenance), asked)


def _require_fit(checkpoint: Checkpoint, names: Callable[[str], str]) -> None:
    require_fit(
        renamed(shapes_of(build_outline(checkpoint.family, checkpoint.model_config)), names),
        renamed(checkpoint.weights, names),
    )


def _open(path: Path) -> _OpenedCheckpoint:
    if path.is_dir():
        return _open_folder(path, None)
    if not path.is_file():
        raise FileNotFoundError(f"no file or folder at {path}")
    if path.name.endswith(INDEX_SUFFIX) or path.name in weight_names("clip_open_clip_folder"):
        found = _folder_of(path)
        if found is not None:
            return found
    document = read_document(path)
    kind = _kind_of(path, document)
    if kind is None:
        raise CheckpointError(f"{path}: {_describe_document(document)}")
    return _OpenedCheckpoint(kind=kind, path=path, document=document)


def _open_folder(path: Path, file: Path | None) -> _OpenedCheckpoint:
    kind = folder_kind(path)
    if kind is not None:
        return _OpenedCheckpoint(kind=kind, path=path, file=file)
    raise CheckpointError(f"{path}: {_describe_folder(path)}")


def _folder_of(file: Path) -> _OpenedCheckpoint | None:
    """Return the hub folder of a weight file, if its name and the configuration beside it indicate one."""
    kind = folder_kind(file.parent) if (file.parent / "config.json").is_file() else None
    kind = "clip_open_clip_folder" if (file.parent / "open_clip_config.json").is_file() else kind
    stem = file.name.removesuffix(INDEX_SUFFIX)
    if kind is None or stem not in weight_names(kind):
        return None
    return _OpenedCheckpoint(kind=kind, path=file.parent, file=file)


def _kind_of(path: Path, document: Any) -> Format | None:
    if is_native(document):
        return "own"
    if is_official_actionclip(document):
        return "actionclip"
    if is_mmaction_actionclip(document):
        return "actionclip_mmaction"
    if find_weights(document, is_xclip) is not None:
        return "xclip"
    if find_weights(document, is_clip) is not None:
        return "clip_torchscript" if file_kind(path) == "torchscript" else "clip"
    return None


def _describe_document(document: Any) -> str:
    """Describe a document of unknown format, for a message."""
    if find_weights(document, lambda names: any(name.startswith(TRANSFORMERS_PARTS) for name in names)) is not None:
        return (
            "weights of a transformers model, whose head counts and activation are in config.json; "
            "give the folder that holds both"
        )
    if isinstance(document, Mapping):
        found = ", ".join(sorted(map(str, document))[:12]) or "nothing"
    else:
        found = type(document).__name__
    return f"not a checkpoint of a known format; it holds {found}"


def _describe_folder(path: Path) -> str:
    """Describe a folder without a supported configuration, for a message."""
    names = sorted(entry.name for entry in path.iterdir())
    if any(name.endswith(".distcp") for name in names):
        return "a sharded checkpoint of torch.distributed; join it with torch.distributed.checkpoint.format_utils first"
    if "zero_to_fp32.py" in names:
        return "a sharded checkpoint of DeepSpeed; join it with its zero_to_fp32.py and give the file"
    shown = ", ".join(names[:8]) or "nothing"
    return (
        "a folder needs open_clip_config.json, or config.json of a CLIP or X-CLIP of transformers, "
        f"beside the weights; this one holds {shown}. To read a single weight file, give its path"
    )


def _read_clip_document(opened: _OpenedCheckpoint, asked: Overrides) -> Checkpoint:
    found = find_weights(opened.document, is_clip, key=asked.weights_key)
    assert found is not None, "recognised by its weights"
    is_archive = opened.kind == "clip_torchscript"
    origin = origin_of_file(file_sha256(opened.path), opened.document, is_archive=is_archive)
    weights = {name: item for name, item in found.weights.items() if not is_archive or name not in OPENAI_NUMBERS}
    checkpoint = read_clip(tensors_of(weights, found.key or "the file"), asked, origin)
    return _with_source(checkpoint, found)


def _read_xclip(opened: _OpenedCheckpoint, asked: Overrides) -> Checkpoint:
    found = find_weights(opened.document, is_xclip, key=asked.weights_key)
    assert found is not None, "recognised by its weights"
    return _with_source(read_official_xclip(opened.document, asked), found)


def _with_source(checkpoint: Checkpoint, found: FoundWeights) -> Checkpoint:
    """Record in the provenance where the weights were found in the file, and which others it holds."""
    if not found.others:
        return checkpoint
    said = {"weights_key": found.key, "other_weights": list(found.others)}
    return replace(checkpoint, provenance={**checkpoint.provenance, **said})


def _read_transformers_clip(opened: _OpenedCheckpoint, asked: Overrides) -> Checkpoint:
    weights, origin = read_transformers_clip(opened.path, opened.file)
    return read_clip(weights, asked, origin)


def _read_open_clip_folder(opened: _OpenedCheckpoint, asked: Overrides) -> Checkpoint:
    document, origin = read_open_clip_folder(opened.path, opened.file)
    found = find_weights(document, is_clip, key=asked.weights_key)
    if found is None:
        raise CheckpointError(f"{opened.path}: {_describe_document(document)}")
    return _with_source(read_clip(tensors_of(found.weights, str(opened.path)), asked, origin), found)


_READERS: Mapping[Format, Callable[[_OpenedCheckpoint, Overrides], Checkpoint]] = {
    "own": lambda opened, _: checkpoint_of(opened.document),
    "actionclip": lambda opened, asked: read_official_actionclip(opened.document, asked),
    "actionclip_mmaction": lambda opened, asked: read_mmaction_actionclip(opened.document, asked),
    "xclip": _read_xclip,
    "xclip_hugging_face": lambda opened, asked: read_hugging_face(opened.path, asked, opened.file),
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
    given = {name: value for name, value in overrides.given().items() if name not in ALWAYS_HONOURED}
    return {"source": source.name, "sha256": file_sha256(source), "format": opened.kind, "overrides": given}


def _with_overrides(checkpoint: Checkpoint, asked: Overrides) -> Checkpoint:
    changes: dict[str, Any] = {}
    if asked.preprocess is not None:
        changes["preprocess"] = asked.preprocess
    if asked.sampling_rule is not None:
        changes["sampling"] = replace(checkpoint.sampling, rule=asked.sampling_rule)
    if asked.templates is not None:
        changes["text"] = replace(checkpoint.text, templates=asked.templates)
    if asked.labels is not None:
        changes["labels"] = asked.labels
    if asked.card is not None:
        changes["card"] = asked.card
    return replace(checkpoint, **changes)
