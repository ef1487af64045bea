"""Rules for sampling, cropping and augmenting clips, for each system: plain, ActionCLIP and X-CLIP.

The training rules are the published recipes; evaluation uses the same rules as serving.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from serve.arrays import Int64Array, UInt8Array
from serve.contract import PreprocessContract, SamplingContract, SamplingRule
from serve.video.sampling import clip_indices
from training.config import ConfigError, DataConfig
from training.data.augmentation.augmentations import Frames, Scope
from training.data.augmentation.randaugment import RandAugment
from training.data.augmentation.random_sampling import SampleFrames, actionclip_training
from training.data.augmentation.rngs import Rngs
from training.data.augmentation.views import ActionClipTrainTransform, XClipTrainTransform
from training.recipes import ACTIONCLIP, PLAIN, XCLIP, Recipe


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Options of the augmentation of a system."""

    randaugment: RandAugment | None = None  # ActionCLIP
    is_directional: bool = False  # labels distinguish left and right: never mirror (ActionCLIP)
    mirrored_labels: Mapping[int, int] = field(default_factory=dict)  # label -> label of its mirror image (X-CLIP)
    jitter_scope: Scope = "frame"


def _actionclip_indices(num_frames: int, num_segments: int, rngs: Rngs) -> Int64Array:
    return actionclip_training(num_frames, num_segments, rngs=rngs)


def _xclip_indices(num_frames: int, num_segments: int, rngs: Rngs) -> Int64Array:
    return SampleFrames(clip_len=1, num_clips=num_segments).indices(num_frames, rngs=rngs)


def _evaluation_indices(rule: SamplingRule, num_frames: int, num_segments: int, rngs: Rngs) -> Int64Array:
    indices: Int64Array = clip_indices(rule, num_frames, num_segments=num_segments, num_clips=1)[0]
    return indices


def _actionclip_augment(
    frames: Frames, label: int, rngs: Rngs, *, size: int, augmentation: Augmentation
) -> tuple[UInt8Array, int]:
    transform = ActionClipTrainTransform(
        size=size,
        randaugment=augmentation.randaugment,
        is_directional=augmentation.is_directional,
        jitter_scope=augmentation.jitter_scope,
    )
    return transform(frames, rngs=rngs), label


def _xclip_augment(
    frames: Frames, label: int, rngs: Rngs, *, size: int, augmentation: Augmentation
) -> tuple[UInt8Array, int]:
    transform = XClipTrainTransform(
        size=size, mirrored_labels=augmentation.mirrored_labels, jitter_scope=augmentation.jitter_scope
    )
    return transform(frames, label=label, rngs=rngs)


@dataclass(frozen=True, kw_only=True)
class SystemRules:
    """The training rules of one system, and the recipe that defines its evaluation and serving."""

    recipe: Recipe
    training_indices: Callable[[int, int, Rngs], Int64Array]  # (number of frames of the video, T, rngs) -> indices [T]
    augment: Callable[..., tuple[UInt8Array, int]]  # T frames, label, rngs, options -> (clip [T, S, S, 3], label)
    options: frozenset[str]  # augmentation options of DataConfig that the system supports


_PILLOW_OPTIONS = frozenset({"randaugment", "directional"})
SYSTEMS: dict[str, SystemRules] = {
    "plain": SystemRules(  # for small models
        recipe=PLAIN,
        training_indices=_actionclip_indices,
        augment=_actionclip_augment,
        options=_PILLOW_OPTIONS,
    ),
    "actionclip": SystemRules(
        recipe=ACTIONCLIP,
        training_indices=_actionclip_indices,
        augment=_actionclip_augment,
        options=_PILLOW_OPTIONS,
    ),
    "xclip": SystemRules(
        recipe=XCLIP,
        training_indices=_xclip_indices,
        augment=_xclip_augment,
        options=frozenset({"mirrored"}),
    ),
}


@dataclass(frozen=True, kw_only=True)
class ClipRule:
    """All rules that determine the clips of a run, for training and evaluation."""

    num_classes: int  # K
    sampling: SamplingContract  # sampling rule of evaluation, and T
    preprocess: PreprocessContract  # preprocessing of evaluation, and S
    training_indices: Callable[[int, int, Rngs], Int64Array]  # (number of frames of the video, T, rngs) -> indices [T]
    augment: Callable[[Frames, int, Rngs], tuple[UInt8Array, int]]  # T frames, label, rngs -> ([T, S, S, 3], label)


def select_system(data: DataConfig) -> SystemRules:
    """Return the rules of the configured system.

    Raises:
        ConfigError: the system is unknown, or does not support an option.
    """
    if data.system not in SYSTEMS:
        raise ConfigError(f"data.system must be one of {', '.join(SYSTEMS)}, got {data.system!r}")
    system = SYSTEMS[data.system]
    for option in ("randaugment", "directional", "mirrored"):
        if getattr(data, option) and option not in system.options:
            supported = ", ".join(sorted(system.options))
            raise ConfigError(
                f"data.{option} is not supported by the system {data.system}; its augmentation options are {supported}"
            )
    return system


def make_preprocess_contract(data: DataConfig) -> PreprocessContract:
    """Return the preprocessing of evaluation and serving; `data.mean` and `data.std` override those of the recipe."""
    default = select_system(data).recipe.preprocess(data.image_size)
    return replace(default, mean=data.mean or default.mean, std=data.std or default.std)  # type: ignore[arg-type]


def normalise_clips(clips: Tensor, rule: PreprocessContract) -> Tensor:
    """Convert clips uint8 [..., 3, S, S] to normalised float32, like the exported graph."""
    mean = 255 * torch.tensor(rule.mean, device=clips.device).reshape(3, 1, 1)
    std = 255 * torch.tensor(rule.std, device=clips.device).reshape(3, 1, 1)
    return (clips.to(torch.float32) - mean) / std


def make_sampling_contract(data: DataConfig) -> SamplingContract:
    """Return the frame sampling of evaluation and serving."""
    return SamplingContract(rule=select_system(data).recipe.sampling, num_segments=data.num_frames)


def clip_rule(data: DataConfig, names: tuple[str, ...]) -> ClipRule:
    """Return the rule of a configuration for the classes `names`.

    Raises:
        ConfigError: the system does not support an option, or `data.mirrored` contains an unknown class.
    """
    system = select_system(data)
    if unknown := sorted({*data.mirrored, *data.mirrored.values()} - set(names)):
        raise ConfigError(f"data.mirrored: unknown classes {', '.join(unknown)}; use names of the class list")
    randaugment = None
    if data.randaugment:
        num_operations, magnitude = data.randaugment
        randaugment = RandAugment(num_operations=int(num_operations), magnitude=magnitude, scope=data.jitter)
    augmentation = Augmentation(
        randaugment=randaugment,
        is_directional=data.directional,
        mirrored_labels={names.index(source): names.index(target) for source, target in data.mirrored.items()},
        jitter_scope=data.jitter,
    )
    return ClipRule(
        num_classes=len(names),
        sampling=make_sampling_contract(data),
        preprocess=make_preprocess_contract(data),
        training_indices=partial(_evaluation_indices, system.recipe.sampling)
        if data.fixed_frames
        else system.training_indices,
        augment=partial(system.augment, size=data.image_size, augmentation=augmentation),
    )
