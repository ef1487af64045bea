"""The native checkpoint format: a self-contained file that holds every choice that changes a number.

A file is a dictionary of plain values and tensors, read with `weights_only=True`, so it cannot run code.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from serve.contract import Family, PreprocessContract, SamplingContract, ScoringContract, TextContract
from serve.files import atomic_write
from training.errors import InputError
from training.finite import non_finite_names, shortened
from training.models.base import VideoTextModel
from training.models.registry import build_model

logger = logging.getLogger(__name__)

MAGIC = "actserve-checkpoint"
FORMAT = 2

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]  # its docstring is logged

Record = TypeVar("Record", SamplingContract, PreprocessContract, TextContract, ScoringContract)


class CheckpointError(InputError):
    """The file is not a checkpoint, or its weights do not fit its configuration; the message names the keys."""


def _name_cleaning(document: dict[str, Any]) -> dict[str, Any]:
    """text.lowercase became text.cleaning"""
    text = dict(document["text"])
    cleaning = "canonicalize" if text.pop("lowercase", False) else "none"
    return {**document, "text": {**text, "cleaning": cleaning}}


UPGRADES: Mapping[int, Upgrade] = {1: _name_cleaning}  # format -> what brings a document of it to the next


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model with its sampling, preprocessing, prompts and scoring.

    `scoring.logit_scale` is the factor of serving; it is fixed when the checkpoint is created (ActionCLIP: 100).
    """

    family: Family
    model_config: dict[str, Any]  # plain arguments of `build_model`
    weights: dict[str, Tensor]
    sampling: SamplingContract
    preprocess: PreprocessContract
    text: TextContract
    scoring: ScoringContract
    labels: tuple[str, ...] = ()  # the recommended vocabulary
    card: str = ""  # text of the model card
    provenance: dict[str, Any] = field(default_factory=dict)
    training_state: dict[str, Any] = field(
        default_factory=dict
    )  # of the trainer: optimiser, step, RNG; plain values or tensors

    def build(self) -> VideoTextModel:
        """Build the model with these weights, in evaluation mode.

        Raises:
            CheckpointError: keys or shapes do not fit the configuration, or weights are not finite.
        """
        require_finite(self.weights, "the checkpoint")
        model = build_outline(self.family, self.model_config)
        if {name for name, _ in model.named_buffers()} - set(model.state_dict()):
            model = build_model(
                self.family, self.model_config
            )  # buffers that are computed at construction and not stored
            load_weights(model, self.weights)
        else:
            require_fit(shapes_of(model), self.weights)
            own = {name: as_float32(item).clone() for name, item in self.weights.items()}
            model.load_state_dict(own, strict=True, assign=True)  # avoids initialising weights only to replace them
        return model.eval()


def as_float32(item: Tensor) -> Tensor:
    """Convert floats to float32; counters of batch normalisation stay integers."""
    return item.to(torch.float32) if item.is_floating_point() else item


def build_outline(family: str, model_config: Mapping[str, Any]) -> VideoTextModel:
    """Build the model on the meta device: names and shapes without memory."""
    with torch.device("meta"):
        return build_model(family, model_config)


def shapes_of(model: VideoTextModel) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the weights of a model."""
    return {name: tuple(item.shape) for name, item in model.state_dict().items()}


def load_weights(model: VideoTextModel, weights: Mapping[str, Tensor]) -> None:
    """Load weights strictly; floats are converted to the dtypes of the model.

    Raises:
        CheckpointError: keys are missing or unexpected, or shapes differ; names them.
    """
    require_fit(shapes_of(model), weights)
    model.load_state_dict(dict(weights), strict=True)


def require_fit(expected: Mapping[str, tuple[int, ...]], weights: Mapping[str, Tensor]) -> None:
    """Compare names and shapes; both sides use the names that the user knows.

    Raises:
        CheckpointError: keys are missing or unexpected, or shapes differ; names them.
    """
    missing = sorted(set(expected) - set(weights))
    unexpected = sorted(set(weights) - set(expected))
    misshapen = [
        f"{name} (expected {list(expected[name])}, found {list(weights[name].shape)})"
        for name in sorted(set(expected) & set(weights))
        if tuple(weights[name].shape) != expected[name]
    ]
    if missing or unexpected or misshapen:
        parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen)]
        differences = "; ".join(f"{len(names)} {what}: {_shorten(names)}" for what, names in parts if names)
        raise CheckpointError(f"the weights do not fit the model: {differences}")


def require_finite(weights: Mapping[str, Tensor], owner: str) -> None:
    """Refuse weights that hold NaN or infinity.

    Raises:
        CheckpointError: weights are not finite; names the owner and the weights.
    """
    if names := non_finite_names(weights):
        raise CheckpointError(f"{owner}: {len(names)} weights hold NaN or infinity: {shortened(names)}")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file atomically: after power loss it holds the old or the complete new content.

    Raises:
        CheckpointError: weights are not finite; the old file stays.
    """
    require_finite(checkpoint.weights, f"{path} is not written")
    document = {
        "magic": MAGIC,
        "format": FORMAT,
        **{item.name: getattr(checkpoint, item.name) for item in fields(checkpoint)},
        **{name: asdict(getattr(checkpoint, name)) for name in ("sampling", "preprocess", "text", "scoring")},
        "weights": {name: item.detach().cpu().contiguous() for name, item in checkpoint.weights.items()},
    }
    with atomic_write(path) as partial:
        torch.save(document, partial)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a file of `save_checkpoint`, of this format or an older one.

    Raises:
        CheckpointError: the file is something else, or of a newer format.
    """
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error}") from error
    if not is_native(document):
        raise CheckpointError(f"{path} is not a checkpoint of actserve (import-checkpoint reads foreign ones)")
    return checkpoint_of(document)


def is_native(document: object) -> bool:
    """Return whether a loaded file was written by `save_checkpoint`."""
    return isinstance(document, Mapping) and document.get("magic") == MAGIC


def checkpoint_of(document: Mapping[str, Any]) -> Checkpoint:
    """Return the checkpoint of a loaded document.

    Raises:
        CheckpointError: a field is missing or unknown.
    """
    document = upgrade_checkpoint(document)
    try:
        return Checkpoint(
            **{name: value for name, value in document.items() if name not in ("magic", "format", *_RECORDS)},
            sampling=_record(SamplingContract, document["sampling"]),
            preprocess=_record(PreprocessContract, document["preprocess"]),
            text=_record(TextContract, document["text"]),
            scoring=_record(ScoringContract, document["scoring"]),
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"the checkpoint's fields are wrong: {error}") from error


def upgrade_checkpoint(
    document: Mapping[str, Any], *, upgrades: Mapping[int, Upgrade] = UPGRADES, newest: int = FORMAT
) -> dict[str, Any]:
    """Upgrade an older document to the current format, logging each change.

    Raises:
        CheckpointError: the format is newer than this program, or no longer supported.
    """
    found = document.get("format")
    if not isinstance(found, int) or not newest - len(upgrades) <= found <= newest:
        raise CheckpointError(f"checkpoint format {found}: supported are {newest - len(upgrades)} to {newest}")
    upgraded = dict(document)
    for number in range(found, newest):
        upgraded = {**upgrades[number](upgraded), "format": number + 1}
        logger.info("checkpoint upgraded from format %d to %d: %s", number, number + 1, upgrades[number].__doc__)
    return upgraded


_RECORDS = ("sampling", "preprocess", "text", "scoring")


def _record(kind: type[Record], values: Mapping[str, Any]) -> Record:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return kind(**fields)


def _shorten(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
