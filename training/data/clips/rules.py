"""Sampling and cropping rules of each system, for training and evaluation.

The training rules are the published recipes; the evaluation rules are those of serving.
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
from training.data.augmentation.views import ActionClipViews, XClipViews
from training.recipes import ACTIONCLIP, PLAIN, XCLIP, Recipe


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Optional augmentation, in addition to that of the system."""

    randaugment: RandAugment | None = None  # ActionCLIP
    is_directional: bool = False  # never mirror: labels distinguish left and right (ActionCLIP)
    mirrored_labels: Mapping[int, int] = field(default_factory=dict)  # mirror with the label (X-CLIP)
    jitter_scope: Scope = "frame"


def _actionclip_indices(num_frames: int, num_segments: int, rngs: Rngs) -> Int64Array:
    return actionclip_training(num_frames, num_segments, rngs=rngs)


def _xclip_indices(num_frames: int, num_segments: int, rngs: Rngs) -> Int64Array:
    return SampleFrames(clip_len=1, num_clips=num_segments).indices(num_frames, rngs=rngs)


def _test_indices(rule: SamplingRule, num_frames: int, num_segments: int, rngs: Rngs) -> Int64Array:
    found: Int64Array = clip_indices(rule, num_frames, num_segments=num_segments, num_clips=1)[0]
    return found


def _actionclip_views(
    frames: Frames, label: int, rngs: Rngs, *, size: int, chosen: Augmentation
) -> tuple[UInt8Array, int]:
    views = ActionClipViews(
        size=size,
        randaugment=chosen.randaugment,
        is_directional=chosen.is_directional,
        jitter_scope=chosen.jitter_scope,
    )
    return views(frames, rngs=rngs), label


def _xclip_views(frames: Frames, label: int, rngs: Rngs, *, size: int, chosen: Augmentation) -> tuple[UInt8Array, int]:
    views = XClipViews(size=size, mirrored_labels=chosen.mirrored_labels, jitter_scope=chosen.jitter_scope)
    return views(frames, label=label, rngs=rngs)


@dataclass(frozen=True, kw_only=True)
class SystemRules:
    """The rules of one system; its recipe has those of evaluation and serving."""

    recipe: Recipe
    training_indices: Callable[[int, int, Rngs], Int64Array]  # frames of the video, T -> [T]
    training_views: Callable[..., tuple[UInt8Array, int]]
    options: frozenset[str]  # supported augmentation options of DataConfig


_PILLOW_OPTIONS = frozenset({"randaugment", "directional"})
SYSTEMS: dict[str, SystemRules] = {
    "plain": SystemRules(  # small models: the centre crop has no margin
        recipe=PLAIN,
        training_indices=_actionclip_indices,
        training_views=_actionclip_views,
        options=_PILLOW_OPTIONS,
    ),
    "actionclip": SystemRules(
        recipe=ACTIONCLIP,
        training_indices=_actionclip_indices,
        training_views=_actionclip_views,
        options=_PILLOW_OPTIONS,
    ),
    "xclip": SystemRules(
        recipe=XCLIP,
        training_indices=_xclip_indices,
        training_views=_xclip_views,
        options=frozenset({"mirrored"}),
    ),
}


@dataclass(frozen=True, kw_only=True)
class ClipRule:
    """All rules that determine a clip: system, T, S, augmentation."""

    num_classes: int  # K
    sampling: SamplingContract  # of evaluation, and T
    preprocess: PreprocessContract  # of evaluation, and S
    training_indices: Callable[[int, int, Rngs], Int64Array]
    training_views: Callable[[Frames, int, Rngs], tuple[UInt8Array, int]]  # -> ([T, S, S, 3], label)


def system_of(data: DataConfig) -> SystemRules:
    """Return the system of a configuration.

    Raises:
        ConfigError: the system is unknown, or does not support an option.
    """
    if data.system not in SYSTEMS:
        raise ConfigError(f"data.system: one of {', '.join(SYSTEMS)} is needed, found {data.system!r}")
    system = SYSTEMS[data.system]
    for option in ("randaugment", "directional", "mirrored"):
        if getattr(data, option) and option not in system.options:
            known = ", ".join(sorted(system.options))
            raise ConfigError(f"data.{option}: the system {data.system} has no such option; it has {known}")
    return system


def preprocess_of(data: DataConfig) -> PreprocessContract:
    """Return the preprocessing of evaluation and serving."""
    own = system_of(data).recipe.preprocess(data.image_size)
    return replace(own, mean=data.mean or own.mean, std=data.std or own.std)  # type: ignore[arg-type]


def normalised(clips: Tensor, rule: PreprocessContract) -> Tensor:
    """Normalise clips uint8 [..., 3, S, S] to float, like the exported graph."""
    mean = 255 * torch.tensor(rule.mean, device=clips.device).reshape(3, 1, 1)
    std = 255 * torch.tensor(rule.std, device=clips.device).reshape(3, 1, 1)
    return (clips.to(torch.float32) - mean) / std


def sampling_of(data: DataConfig) -> SamplingContract:
    """Return the frame sampling of evaluation and serving."""
    return SamplingContract(rule=system_of(data).recipe.sampling, num_segments=data.num_frames)


def clip_rule(data: DataConfig, names: tuple[str, ...]) -> ClipRule:
    """Return the rule of a configuration; class names map mirrored labels.

    Raises:
        ConfigError: options do not fit the system, or mirror names are not classes.
    """
    system = system_of(data)
    if unknown := sorted({*data.mirrored, *data.mirrored.values()} - set(names)):
        raise ConfigError(f"data.mirrored: unknown classes {', '.join(unknown)}")
    strength = data.randaugment
    chosen = Augmentation(
        randaugment=RandAugment(num_operations=int(strength[0]), strength=strength[1], scope=data.jitter)
        if strength
        else None,
        is_directional=data.directional,
        mirrored_labels={names.index(here): names.index(there) for here, there in data.mirrored.items()},
        jitter_scope=data.jitter,
    )
    return ClipRule(
        num_classes=len(names),
        sampling=sampling_of(data),
        preprocess=preprocess_of(data),
        training_indices=partial(_test_indices, system.recipe.sampling)
        if data.fixed_frames
        else system.training_indices,
        training_views=partial(system.training_views, size=data.image_size, chosen=chosen),
    )
