"""The native checkpoint format: a self-contained file with every choice that changes a result.

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

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]  # the docstring of an upgrade is logged

Contract = TypeVar("Contract", SamplingContract, PreprocessContract, TextContract, ScoringContract)


class CheckpointError(InputError):
    """The file is not a checkpoint, or its weights do not match its configuration; the message lists the keys."""


def _rename_lowercase(document: dict[str, Any]) -> dict[str, Any]:
    """text.lowercase became text.cleaning"""
    text = dict(document["text"])
    cleaning = "canonicalize" if text.pop("lowercase", False) else "none"
    return {**document, "text": {**text, "cleaning": cleaning}}


UPGRADES: Mapping[int, Upgrade] = {1: _rename_lowercase}  # key: format that the function upgrades by one


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model with its sampling, preprocessing, prompts and scoring.

    `scoring.logit_scale` is the factor that serving applies (no logarithm). It is set when the checkpoint is created;
    for ActionCLIP it is 100.
    """

    family: Family
    model_config: dict[str, Any]  # arguments of `build_model`, as plain values
    weights: dict[str, Tensor]
    sampling: SamplingContract
    preprocess: PreprocessContract
    text: TextContract
    scoring: ScoringContract
    labels: tuple[str, ...] = ()  # default class names of evaluation and serving
    card: str = ""  # text of the model card
    provenance: dict[str, Any] = field(default_factory=dict)
    # state of the trainer (optimiser, step, RNG), as plain values and tensors
    training_state: dict[str, Any] = field(default_factory=dict)

    def build(self) -> VideoTextModel:
        """Build the model with these weights, in evaluation mode.

        Raises:
            CheckpointError: keys or shapes do not match the configuration, or weights are not finite.
        """
        require_finite(self.weights, "the checkpoint")
        model = build_on_meta(self.family, self.model_config)
        if {name for name, _ in model.named_buffers()} - set(model.state_dict()):
            # some buffers are computed at construction and not stored
            model = build_model(self.family, self.model_config)
            load_weights(model, self.weights)
        else:
            check_weights(weight_shapes(model), self.weights)
            copies = {name: as_float32(item).clone() for name, item in self.weights.items()}
            # `assign` avoids initialising weights that are replaced immediately
            model.load_state_dict(copies, strict=True, assign=True)
        return model.eval()


def as_float32(item: Tensor) -> Tensor:
    """Convert floating-point tensors to float32; integers, such as counters of batch normalisation, are not changed."""
    return item.to(torch.float32) if item.is_floating_point() else item


def build_on_meta(family: str, model_config: Mapping[str, Any]) -> VideoTextModel:
    """Build the model on the meta device, with names and shapes but without memory for weights."""
    with torch.device("meta"):
        return build_model(family, model_config)


def weight_shapes(model: VideoTextModel) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight of a model."""
    return {name: tuple(item.shape) for name, item in model.state_dict().items()}


def load_weights(model: VideoTextModel, weights: Mapping[str, Tensor]) -> None:
    """Load weights into a model, with all keys required; floats are converted to the dtypes of the model.

    Raises:
        CheckpointError: keys are missing or unexpected, or shapes differ; the message lists them.
    """
    check_weights(weight_shapes(model), weights)
    model.load_state_dict(dict(weights), strict=True)


def check_weights(expected: Mapping[str, tuple[int, ...]], weights: Mapping[str, Tensor]) -> None:
    """Check that weights have the expected names and shapes; both arguments use the names that the user knows.

    Raises:
        CheckpointError: keys are missing or unexpected, or shapes differ; the message lists them.
    """
    missing = sorted(set(expected) - set(weights))
    unexpected = sorted(set(weights) - set(expected))
    misshapen = [
        f"{name} (expected {list(expected[name])}, got {list(weights[name].shape)})"
        for name in sorted(set(expected) & set(weights))
        if tuple(weights[name].shape) != expected[name]
    ]
    if missing or unexpected or misshapen:
        parts = [("missing", missing), ("unexpected", unexpected), ("with a different shape", misshapen)]
        differences = "; ".join(f"{len(names)} {problem}: {_shorten(names)}" for problem, names in parts if names)
        raise CheckpointError(f"the weights do not match the model: {differences}")


def require_finite(weights: Mapping[str, Tensor], owner: str) -> None:
    """Raise if weights contain NaN or infinity; `owner` names them in the message.

    Raises:
        CheckpointError: weights are not finite; the message lists them.
    """
    if names := non_finite_names(weights):
        raise CheckpointError(f"{owner}: {len(names)} weights contain NaN or infinity: {shortened(names)}")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file atomically: after a crash it has either the old or the complete new content.

    Raises:
        CheckpointError: weights are not finite; an existing file is not changed.
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
    """Read a file written by `save_checkpoint`, in this format or an older one.

    Raises:
        CheckpointError: the file has another format, or a newer version of the format.
    """
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise CheckpointError(f"cannot read {path} as a checkpoint: {error}") from error
    if not is_native(document):
        raise CheckpointError(f"{path} is not a checkpoint of actserve; convert other formats with import-checkpoint")
    return parse_checkpoint(document)


def is_native(document: object) -> bool:
    """Return whether a loaded file was written by `save_checkpoint`."""
    return isinstance(document, Mapping) and document.get("magic") == MAGIC


def parse_checkpoint(document: Mapping[str, Any]) -> Checkpoint:
    """Create the checkpoint from a loaded document.

    Raises:
        CheckpointError: a field is missing or unknown.
    """
    document = upgrade_checkpoint(document)
    try:
        return Checkpoint(
            **{name: value for name, value in document.items() if name not in ("magic", "format", *_CONTRACT_FIELDS)},
            sampling=_make_contract(SamplingContract, document["sampling"]),
            preprocess=_make_contract(PreprocessContract, document["preprocess"]),
            text=_make_contract(TextContract, document["text"]),
            scoring=_make_contract(ScoringContract, document["scoring"]),
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"the fields of the checkpoint are invalid: {error}") from error


def upgrade_checkpoint(
    document: Mapping[str, Any], *, upgrades: Mapping[int, Upgrade] = UPGRADES, newest: int = FORMAT
) -> dict[str, Any]:
    """Upgrade an older document to the current format and log each change.

    Raises:
        CheckpointError: the format is newer than this program supports, or no longer supported.
    """
    version = document.get("format")
    if not isinstance(version, int) or not newest - len(upgrades) <= version <= newest:
        raise CheckpointError(f"the checkpoint format must be {newest - len(upgrades)} to {newest}, got {version}")
    upgraded = dict(document)
    for number in range(version, newest):
        upgraded = {**upgrades[number](upgraded), "format": number + 1}
        logger.info("checkpoint upgraded from format %d to %d: %s", number, number + 1, upgrades[number].__doc__)
    return upgraded


_CONTRACT_FIELDS = ("sampling", "preprocess", "text", "scoring")


def _make_contract(kind: type[Contract], values: Mapping[str, Any]) -> Contract:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return kind(**fields)


def _shorten(names: list[str], max_names: int = 12) -> str:
    return ", ".join(names[:max_names]) + (f" and {len(names) - max_names} more" if len(names) > max_names else "")
