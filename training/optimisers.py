"""Optimisers with parameter groups as in ActionCLIP and X-CLIP, which have their own learning rate and weight decay.

A group is a dict for torch's optimisers: {params, names, lr, weight_decay}. Frozen parameters are in no group.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch.nn import Parameter

from training.config import ConfigError, OptimConfig

NamedParameters = Iterable[tuple[str, Parameter]]
Group = dict[str, Any]

BETAS = (0.9, 0.98)  # used by ActionCLIP, X-CLIP and CLIP
EPS = 1e-8
ADAM_DECAY = 0.2  # ActionCLIP's "adam" uses this weight decay instead of the configured one
NEW_PART_FACTOR = 10  # X-CLIP: learning rate of the new parts relative to that of CLIP's weights
NEW_PARTS = ("mit", "prompts", "message_")  # X-CLIP: names of the new parts, in the order of the published groups

BLOCK_WEIGHT = re.compile(r"^(.*?)\b(?:resblocks|blocks|stages)\.(\d+)\.")  # prefix of the tower, index of the block
STEM_WEIGHT = re.compile(r"embedding|conv1|patch_embed|pos_embed|ln_pre|norm_pre|cls_token")

ActionClipOptimiser = Literal["adamw", "adam", "sgd"]


def actionclip_optimiser(
    parameters: NamedParameters,
    *,
    kind: ActionClipOptimiser,
    lr: float,
    weight_decay: float,
    vision_ratio: float = 1.0,
    fusion_ratio: float = 10.0,
    momentum: float = 0.9,
) -> torch.optim.Optimizer:
    """Return ActionCLIP's optimiser; weight decay applies to all parameters, including norms and the logit scale.

    With AdamW, the vision tower (`visual`) has the learning rate `vision_ratio` times `lr`, the fusion head `fusion`
    `fusion_ratio` times `lr`, and all other parameters `lr`. The other two kinds ignore `vision_ratio`.
    """
    trained = [(name, item) for name, item in parameters if item.requires_grad]
    fusion = [name for name, _ in trained if name.startswith("fusion.")]
    vision = [name for name, _ in trained if name.startswith("visual.")] if kind == "adamw" else []
    rest = [name for name, _ in trained if name not in {*fusion, *vision}]
    rates = [(rest, lr), (vision, lr * vision_ratio), (fusion, lr * fusion_ratio)]
    decay = ADAM_DECAY if kind == "adam" else weight_decay
    groups = _groups(trained, [(names, rate, decay) for names, rate in rates])
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum)
    optimiser_class = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
    return optimiser_class(groups, lr=lr, betas=BETAS, eps=EPS)


def xclip_optimiser(parameters: NamedParameters, *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return X-CLIP's AdamW, with up to eight groups.

    New parts have ten times the learning rate `lr`; weight decay applies only to matrices.
    """
    trained = [(name, item) for name, item in parameters if item.requires_grad]
    plan = []
    for part in (None, *NEW_PARTS):
        names = [name for name, _ in trained if _new_part_of(name) == part]
        rate = lr if part is None else lr * NEW_PART_FACTOR
        decayed = [name for name, item in trained if name in names and _decays(name, item)]
        plan += [(decayed, rate, weight_decay), ([name for name in names if name not in decayed], rate, 0.0)]
    return torch.optim.AdamW(_groups(trained, plan), lr=lr, betas=BETAS, eps=EPS)


def freeze_xclip_text_(parameters: NamedParameters) -> None:
    """Freeze all parameters, including the logit scale, except the vision tower and X-CLIP's new parts."""
    for name, item in parameters:
        item.requires_grad_(name.startswith("visual.") or _new_part_of(name) is not None)


def _new_part_of(name: str) -> str | None:
    return next((part for part in reversed(NEW_PARTS) if part in name), None)


def _decays(name: str, item: Parameter) -> bool:
    """Return whether weight decay applies: to matrices except position embeddings.

    In X-CLIP's code, weight decay also applies to scalars.
    """
    return item.ndim > 1 and not name.endswith(".bias") and "positional_embedding" not in name


def _groups(trained: list[tuple[str, Parameter]], plan: list[tuple[list[str], float, float]]) -> list[Group]:
    """Return the groups of a plan, a list of (names, learning rate, weight decay); empty groups are omitted."""
    parameters = dict(trained)
    return [
        {"params": [parameters[name] for name in names], "names": names, "lr": rate, "weight_decay": decay}
        for names, rate, decay in plan
        if names
    ]


def plain_optimiser(
    parameters: NamedParameters, *, kind: ActionClipOptimiser, optim: OptimConfig
) -> torch.optim.Optimizer:
    """Return an optimiser with one learning rate; weight decay applies only to matrices, except embedding tables."""
    trained = [(name, item) for name, item in parameters if item.requires_grad]
    decayed = [name for name, item in trained if item.ndim >= 2 and "embedding" not in name]
    undecayed = [name for name, _ in trained if name not in set(decayed)]
    groups = _groups(trained, [(decayed, optim.lr, optim.weight_decay), (undecayed, optim.lr, 0.0)])
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum)
    optimiser_class = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
    return optimiser_class(groups, lr=optim.lr, betas=(optim.betas[0], optim.betas[1]))


def _actionclip(parameters: NamedParameters, optim: OptimConfig) -> torch.optim.Optimizer:
    return actionclip_optimiser(
        parameters,
        kind=optim.kind,
        lr=optim.lr,
        weight_decay=optim.weight_decay,
        vision_ratio=optim.vision_ratio,
        fusion_ratio=optim.fusion_ratio,
        momentum=optim.momentum,
    )


def _xclip(parameters: NamedParameters, optim: OptimConfig) -> torch.optim.Optimizer:
    if optim.kind != "adamw":
        raise ConfigError(f"optim.kind must be adamw with optim.groups xclip, got {optim.kind}")
    return xclip_optimiser(parameters, lr=optim.lr, weight_decay=optim.weight_decay)


def _plain(parameters: NamedParameters, optim: OptimConfig) -> torch.optim.Optimizer:
    return plain_optimiser(parameters, kind=optim.kind, optim=optim)


GROUPINGS: Mapping[str, Callable[[NamedParameters, OptimConfig], torch.optim.Optimizer]] = {
    "plain": _plain,
    "actionclip": _actionclip,
    "xclip": _xclip,
}


def make_optimiser(parameters: Iterable[tuple[str, Parameter]], optim: OptimConfig) -> torch.optim.Optimizer:
    """Return the optimiser of a configuration; each group stores its peak learning rate under the key `peak`.

    Raises:
        ConfigError: `optim.groups` is unknown, or all weights are frozen.
    """
    if optim.groups not in GROUPINGS:
        raise ConfigError(f"optim.groups must be one of {', '.join(GROUPINGS)}, got {optim.groups!r}")
    named = list(parameters)
    if not any(item.requires_grad for _, item in named):
        raise ConfigError("model.frozen: all weights are frozen, so there is nothing to train")
    optimiser = GROUPINGS[optim.groups](named, optim)
    if optim.layer_decay < 1:
        optimiser.param_groups[:] = _with_layer_rates(optimiser.param_groups, optim.layer_decay)
    for group in optimiser.param_groups:
        group["peak"] = group["lr"]
    return optimiser


def _with_layer_rates(groups: list[Group], decay: float) -> list[Group]:
    """Split the groups by depth, for layer-wise learning rate decay.

    Each block has `decay` times the learning rate of the next block. The last block of a tower and the layers after it
    have the full rate; the stem counts as the block before the first one.
    """
    names = [name for group in groups for name in group["names"]]
    depths: dict[str, int] = {}  # prefix of a tower -> number of blocks
    for name in names:
        if match := BLOCK_WEIGHT.match(name):
            depths[match[1]] = max(depths.get(match[1], 0), int(match[2]) + 1)
    split = []
    for group in groups:
        by_factor: dict[float, tuple[list[Parameter], list[str]]] = {}
        for item, name in zip(group["params"], group["names"], strict=True):
            factor = decay ** _blocks_above(name, depths)
            params, param_names = by_factor.setdefault(factor, ([], []))
            params.append(item)
            param_names.append(name)
        split += [
            {**group, "params": params, "names": param_names, "lr": group["lr"] * factor}
            for factor, (params, param_names) in by_factor.items()
        ]
    return split


def _blocks_above(name: str, depths: Mapping[str, int]) -> int:
    """Return the number of blocks that follow a weight's block in its tower; for the stem, all blocks of the tower."""
    if match := BLOCK_WEIGHT.match(name):
        return depths[match[1]] - 1 - int(match[2])
    if not STEM_WEIGHT.search(name):
        return 0
    tower = name.split(".")[0] + "."
    return max((depth for prefix, depth in depths.items() if prefix.startswith(tower)), default=0)
