"""Build the initial model of a training run, with random weights or weights from a file or from open_clip.

Parts that the weights lack (fusion model, messages, prompts) are initialised randomly; other missing keys are an error.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from training.checkpoints.names import ADDED_PARTS
from training.checkpoints.native_format import Checkpoint, check_weights, weight_shapes
from training.checkpoints.overrides import Overrides
from training.config import ConfigError, ModelConfig
from training.models.adapters import add_adapters_
from training.models.base import VideoTextModel
from training.models.freezing import checkpoint_activations_, freeze_
from training.models.registry import build_model
from training.recipes import CLIP

logger = logging.getLogger(__name__)

HUB_PREFIX = "open_clip:"
FRAME_POSITIONS = ("fusion.frame_position_embeddings.weight", "mit.positional_embedding")
SHIFT_PREFIX = ".block."  # in names of blocks wrapped by TemporalShift, which has no weights


def initial_model(config: ModelConfig) -> VideoTextModel:
    """Build the model with its initial weights, frozen parts and adapters.

    Random weights are drawn from torch's global generator, which the caller seeds.

    Raises:
        ModelConfigError: the fields are invalid, or a pattern of weight names matches nothing.
        CheckpointError: the weights cannot be read, or do not match the model.
        ConfigError: `model.start` is invalid.
    """
    model = build_model(config.family, config.model)
    for name, item in model.named_parameters():
        if name in FRAME_POSITIONS:
            nn.init.normal_(item, std=config.frame_position_spread)
    if config.start:
        load_initial_weights_(model, _read_weights(config))
    freeze_(model, config.frozen)
    if config.lora.rank:
        add_adapters_(model, config.lora.matrices, rank=config.lora.rank, alpha=config.lora.alpha)
    if config.checkpointing:
        checkpoint_activations_(model)
    return model.to(memory_format=torch.channels_last)


def load_initial_weights_(model: VideoTextModel, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into the model; parts that families add to CLIP may be missing or have a different size.

    Raises:
        CheckpointError: a weight of the towers is missing, unexpected or has a different shape.
    """
    state = model.state_dict()
    native_names = {name.replace(SHIFT_PREFIX, "."): name for name in state}
    weights = {native_names.get(name.replace(SHIFT_PREFIX, "."), name): item for name, item in weights.items()}
    unused = {
        name
        for name, item in weights.items()
        if _is_added(name) and (name not in state or state[name].shape != item.shape)
    }
    random = {name for name in state if _is_added(name) and (name not in weights or name in unused)}
    used = {name: item for name, item in weights.items() if name not in unused}
    check_weights({name: shape for name, shape in weight_shapes(model).items() if name not in random}, used)
    model.load_state_dict({**state, **used})
    for action, names in (("initialised randomly", random), ("not used", unused)):
        if names:
            logger.info(
                "%d weights are %s: %s", len(names), action, ", ".join(sorted({n.split(".")[0] for n in names}))
            )


def _is_added(name: str) -> bool:
    return any(part in name for part in ADDED_PARTS)


def _read_weights(config: ModelConfig) -> Mapping[str, Tensor]:
    # imported here, because open_clip takes seconds to import and small models do not need it
    from training.checkpoints.clip_files import read_clip
    from training.checkpoints.open_clip_weights import fetch_weights, load_weights
    from training.checkpoints.reading import read_checkpoint

    arch = config.model.get("vision", {}).get("arch")
    if config.start.startswith(HUB_PREFIX):
        arch_name, _, tag = config.start.removeprefix(HUB_PREFIX).partition("/")
        if not arch_name or not tag:
            raise ConfigError(f"model.start: must be open_clip:ARCH/TAG, got {config.start!r}")
        weights = load_weights(arch_name, fetch_weights(arch_name, tag).path)
        overrides = Overrides(family="clip", arch=arch_name, tag=tag)
        return _check_activation(config, read_clip(weights, overrides))
    path = Path(config.start)
    if not path.exists():
        raise ConfigError(f"model.start: no file or folder at {path}")
    return _check_activation(config, read_checkpoint(path, overrides=_start_overrides(config, path, arch)))


def _start_overrides(config: ModelConfig, path: Path, arch: str | None) -> Overrides | None:
    """Return overrides for a file of plain CLIP weights from the run's configuration, or None for other formats.

    The run defines its own preprocessing, so that of published weights is not looked up.
    """
    from training.checkpoints.reading import detect_format

    kind = detect_format(path)
    if kind != "clip":
        return Overrides(arch=arch) if arch and kind == "clip_torchscript" else None
    return Overrides(arch=arch, activation=_activation(config.model), preprocess=CLIP.preprocess(1))


def _check_activation(config: ModelConfig, checkpoint: Checkpoint) -> Mapping[str, Tensor]:
    """Return the weights of a checkpoint after checking that they were trained with the run's activation.

    Raises:
        ConfigError: the activations differ.
    """
    configured, trained = _activation(config.model), _activation(checkpoint.model_config)
    if None not in (configured, trained) and configured != trained:
        raise ConfigError(
            f"model.model: the towers use the activation {configured}, but the weights of {config.start} were trained "
            f"with {trained}; set vision.activation and text.activation (for open_clip towers, quick_gelu in changes)"
        )
    return checkpoint.weights


def _activation(model: Mapping[str, Any]) -> Literal["quick_gelu", "gelu"] | None:
    """Return the activation of the text tower of a configuration, or None if that kind of tower has none."""
    text = model.get("text", {})
    if text.get("kind") == "clip":
        return "gelu" if text.get("activation") == "gelu" else "quick_gelu"
    if text.get("kind") == "open_clip":
        from training.models.open_clip_towers import architecture_config

        return "quick_gelu" if architecture_config(text["arch"], text.get("changes")).get("quick_gelu") else "gelu"
    return None
