"""Any checkpoint file or folder to a `Checkpoint`: tell the format, read it, check that every key fits.

checkpoint = read_checkpoint(Path("k400_vit_b16_8f.pth"))
model = checkpoint.build()
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
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
from training.checkpoints.clip_files import clip_weights_of, read_clip
from training.checkpoints.foreign_files import is_torchscript, read_document, tensors_of
from training.checkpoints.hugging_face import WEIGHT_FILES, is_hugging_face_xclip, read_hugging_face
from training.checkpoints.names import renamed, to_official
from training.checkpoints.overrides import Overrides, make_overrides
from training.checkpoints.own import (
    Checkpoint,
    CheckpointError,
    as_float32,
    build_outline,
    checkpoint_of,
    is_own,
    require_fit,
    shapes_of,
)
from training.checkpoints.xclip_files import is_official_xclip, read_official_xclip

logger = logging.getLogger(__name__)

Format = Literal["own", "actionclip", "actionclip_mmaction", "xclip", "xclip_hugging_face", "clip", "clip_torchscript"]

ALWAYS_HONOURED = frozenset({"preprocess", "sampling_rule", "templates", "labels", "card"})
_TOWERS = frozenset({"num_frames", "vision_heads", "text_heads", "activation"})
_XCLIP = _TOWERS | {"mit_heads", "prompt_heads"}
_CLIP = _XCLIP | {"family", "fusion", "prompts", "arch", "seed"}
HONOURED: Mapping[Format, frozenset[str]] = {
    "own": frozenset(),
    "actionclip": _TOWERS | {"fusion"},
    "actionclip_mmaction": _TOWERS | {"fusion"},
    "xclip": _XCLIP,
    "xclip_hugging_face": _XCLIP - {"activation"},
    "clip": _CLIP,
    "clip_torchscript": _CLIP,
}


def detect_format(path: Path) -> Format:
    """Whose checkpoint this is, told from its content.

    Raises:
        CheckpointError: none that is known; the message says what was found.
    """
    return _open(path)[0]


def read_checkpoint(path: Path, *, overrides: Overrides | Mapping[str, Any] | None = None) -> Checkpoint:
    """Read a checkpoint of any known format; weights come as float32, every key is accounted for.

    Raises:
        CheckpointError: unknown format, missing or unexpected keys or other shapes (all named), or overrides that
            contradict the file.
        ModelConfigError: the sizes do not make a model, e.g. heads that do not divide the width.
    """
    asked = make_overrides(overrides)
    kind, document = _open(path)
    ignored = sorted(set(asked.given()) - ALWAYS_HONOURED - HONOURED[kind])
    if ignored:
        raise CheckpointError(f"overrides: {', '.join(ignored)} cannot be told of a checkpoint of the kind {kind}")
    if kind == "own":
        checkpoint = checkpoint_of(document)
    elif kind == "xclip_hugging_face":
        checkpoint = read_hugging_face(path, asked)
    else:
        checkpoint = _READERS[kind](document, asked)
    names = (lambda name: name) if kind == "own" else to_official
    require_fit(
        renamed(shapes_of(build_outline(checkpoint.family, checkpoint.model_config)), names),
        renamed(checkpoint.weights, names),
    )
    if kind != "own":
        checkpoint = replace(
            checkpoint, weights=_as_float32(checkpoint.weights), provenance=_provenance(path, kind, asked)
        )
    return _with_overrides(checkpoint, asked)


def _open(path: Path) -> tuple[Format, Any]:
    if path.is_dir():
        if is_hugging_face_xclip(path):
            return "xclip_hugging_face", None
        raise CheckpointError(f"{path}: a folder is read when it holds an X-CLIP of transformers, this one does not")
    document = read_document(path)
    if is_own(document):
        return "own", document
    if is_official_actionclip(document):
        return "actionclip", document
    if is_mmaction_actionclip(document):
        return "actionclip_mmaction", document
    if is_official_xclip(document):
        return "xclip", document
    if clip_weights_of(document) is not None:
        return "clip_torchscript" if is_torchscript(path) else "clip", document
    found = ", ".join(sorted(map(str, document))[:12]) if isinstance(document, Mapping) else type(document).__name__
    raise CheckpointError(f"{path}: no checkpoint of a known kind; it holds {found}")


def _read_clip_document(document: Any, overrides: Overrides) -> Checkpoint:
    return read_clip(tensors_of(clip_weights_of(document), "state_dict"), overrides)


_READERS = {
    "actionclip": read_official_actionclip,
    "actionclip_mmaction": read_mmaction_actionclip,
    "xclip": read_official_xclip,
    "clip": _read_clip_document,
    "clip_torchscript": _read_clip_document,
}


def _as_float32(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: as_float32(item) for name, item in weights.items()}


def _provenance(path: Path, kind: Format, overrides: Overrides) -> dict[str, Any]:
    source = path
    if path.is_dir():
        source = next((path / name for name in WEIGHT_FILES if (path / name).is_file()), path / "config.json")
    told = {name: value for name, value in overrides.given().items() if name not in ALWAYS_HONOURED}
    return {"source": source.name, "sha256": file_sha256(source), "format": kind, "overrides": told}


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
