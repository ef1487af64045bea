"""Build the initial model of a run, with weights of a file or of open_clip if the configuration names some.

Parts that these lack (fusion head, messages, prompts) are initialised randomly; other missing parts are an error.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from training.checkpoints.names import FRESH
from training.checkpoints.native_format import Checkpoint, require_fit, shapes_of
from training.checkpoints.overrides import Overrides
from training.config import ConfigError, ModelConfig
from training.models.adapters import add_adapters_
from training.models.base import VideoTextModel
from training.models.freezing import checkpoint_activations_, freeze_
from training.models.registry import build_model
from training.recipes import CLIP

logger = logging.getLogger(__name__)

HUB = "open_clip:"
FRAME_POSITIONS = ("fusion.frame_position_embeddings.weight", "mit.positional_embedding")
SHIFTED = ".block."  # part of the names of blocks inside TemporalShift, which has no weights


def starting_model(config: ModelConfig) -> VideoTextModel:
    """Return the model with its initial weights, frozen parts and adapters.

    Random weights use torch's global generator, which the caller seeds.

    Raises:
        ModelConfigError: the fields are invalid, or a pattern of weight names matches nothing.
        CheckpointError: the weights cannot be read, or do not fit.
        ConfigError: the name of the weights is invalid.
    """
    model = build_model(config.family, config.model)
    for name, item in model.named_parameters():
        if name in FRAME_POSITIONS:
            nn.init.normal_(item, std=config.frame_position_spread)
    if config.start:
        fill_(model, _weights_of(config))
    freeze_(model, config.frozen)
    if config.lora.rank:
        add_adapters_(model, config.lora.matrices, rank=config.lora.rank, alpha=config.lora.alpha)
    if config.checkpointing:
        checkpoint_activations_(model)
    return model.to(memory_format=torch.channels_last)


def fill_(model: VideoTextModel, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into the model; parts that families add to CLIP may be missing or of another size.

    Raises:
        CheckpointError: a weight of the towers is missing, unexpected or of another shape.
    """
    own = model.state_dict()
    plain = {name.replace(SHIFTED, "."): name for name in own}
    weights = {plain.get(name.replace(SHIFTED, "."), name): item for name, item in weights.items()}
    left = {
        name for name, item in weights.items() if _is_added(name) and (name not in own or own[name].shape != item.shape)
    }
    added = {name for name in own if _is_added(name) and (name not in weights or name in left)}
    given = {name: item for name, item in weights.items() if name not in left}
    require_fit({name: shape for name, shape in shapes_of(model).items() if name not in added}, given)
    model.load_state_dict({**own, **given})
    for state, names in (("start fresh", added), ("are not of this model", left)):
        if names:
            logger.info("%d weights %s: %s", len(names), state, ", ".join(sorted({n.split(".")[0] for n in names})))


def _is_added(name: str) -> bool:
    return any(part in name for part in FRESH)


def _weights_of(config: ModelConfig) -> Mapping[str, Tensor]:
    # open_clip takes seconds to import, and runs of small models do not need it
    from training.checkpoints.clip_files import read_clip
    from training.checkpoints.open_clip_weights import fetch_weights, load_weights
    from training.checkpoints.reading import read_checkpoint

    arch = config.model.get("vision", {}).get("arch")
    if config.start.startswith(HUB):
        named, _, tag = config.start.removeprefix(HUB).partition("/")
        if not named or not tag:
            raise ConfigError(f"model.start: open_clip:ARCH/TAG is needed, found {config.start!r}")
        found = load_weights(named, fetch_weights(named, tag).path)
        return _with_same_activation(config, read_clip(found, Overrides(family="clip", arch=named, tag=tag)))
    path = Path(config.start)
    if not path.exists():
        raise ConfigError(f"model.start: the file {path} does not exist")
    return _with_same_activation(config, read_checkpoint(path, overrides=_start_overrides(config, path, arch)))


def _start_overrides(config: ModelConfig, path: Path, arch: str | None) -> Overrides | None:
    """Return overrides from the run's configuration for a file of plain CLIP weights; other formats need none.

    Preprocessing is chosen by the run, so it may differ from that of the published weights.
    """
    from training.checkpoints.reading import detect_format

    kind = detect_format(path)
    if kind != "clip":
        return Overrides(arch=arch) if arch and kind == "clip_torchscript" else None
    return Overrides(arch=arch, activation=_activation(config.model), preprocess=CLIP.preprocess(1))


def _with_same_activation(config: ModelConfig, checkpoint: Checkpoint) -> Mapping[str, Tensor]:
    """Return the weights of a checkpoint, whose towers must have the run's activation.

    Raises:
        ConfigError: they were trained with another one.
    """
    here, there = _activation(config.model), _activation(checkpoint.model_config)
    if None not in (here, there) and here != there:
        raise ConfigError(
            f"model.model: the towers have the activation {here}, the weights of {config.start} were trained with "
            f"{there}; set vision.activation and text.activation (quick_gelu in changes of open_clip towers)"
        )
    return checkpoint.weights


def _activation(model: Mapping[str, Any]) -> Literal["quick_gelu", "gelu"] | None:
    """Return the activation of the text tower of a configuration; None if the kind of tower has none."""
    text = model.get("text", {})
    if text.get("kind") == "clip":
        return "gelu" if text.get("activation") == "gelu" else "quick_gelu"
    if text.get("kind") == "open_clip":
        from training.models.open_clip_towers import architecture

        return "quick_gelu" if architecture(text["arch"], text.get("changes")).get("quick_gelu") else "gelu"
    return None
