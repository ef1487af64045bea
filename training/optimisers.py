"""Parameter groups of both systems: learning rate and weight decay by part.

A group is a dict for torch's optimisers: {params, names, lr, weight_decay}. Frozen parameters are in no group.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch.nn import Parameter

from training.config import ConfigError, OptimConfig

Named = Iterable[tuple[str, Parameter]]
Group = dict[str, Any]

BETAS = (0.9, 0.98)  # of both systems and of CLIP
EPS = 1e-8
ADAM_DECAY = 0.2  # ActionCLIP's "adam" ignores the recipe's value
FRESH_FACTOR = 10  # X-CLIP's learning rate of new parts relative to CLIP's
FRESH_PARTS = ("mit", "prompts", "message_")  # X-CLIP's new parts, in the order of the original groups

BLOCK = re.compile(r"^(.*?)\b(?:resblocks|blocks|stages)\.(\d+)\.")  # tower and index of a weight's block
STEM = re.compile(r"embedding|conv1|patch_embed|pos_embed|ln_pre|norm_pre|cls_token")

ActionClipOptimiser = Literal["adamw", "adam", "sgd"]


def actionclip_optimiser(
    parameters: Named,
    *,
    kind: ActionClipOptimiser,
    lr: float,
    weight_decay: float,
    vision_ratio: float = 1.0,
    fusion_ratio: float = 10.0,
    momentum: float = 0.9,
) -> torch.optim.Optimizer:
    """Return ActionCLIP's optimiser; weight decay applies to all parameters, also norms and the logit scale.

    AdamW has three groups: the text side at `lr`, `visual` at `vision_ratio` and `fusion` at `fusion_ratio` times that.
    The other two kinds have CLIP in one group.
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
    maker = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
    return maker(groups, lr=lr, betas=BETAS, eps=EPS)


def xclip_optimiser(parameters: Named, *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return X-CLIP's AdamW: ten times the rate for new parts, weight decay only for matrices; up to eight groups."""
    trained = [(name, item) for name, item in parameters if item.requires_grad]
    plan = []
    for part in (None, *FRESH_PARTS):
        names = [name for name, _ in trained if _fresh_part(name) == part]
        rate = lr if part is None else lr * FRESH_FACTOR
        decayed = [name for name, item in trained if name in names and _decays(name, item)]
        plan += [(decayed, rate, weight_decay), ([name for name in names if name not in decayed], rate, 0.0)]
    return torch.optim.AdamW(_groups(trained, plan), lr=lr, betas=BETAS, eps=EPS)


def freeze_xclip_text_(parameters: Named) -> None:
    """Freeze all but vision tower, frame integration and prompts, as X-CLIP does; also the logit scale."""
    for name, item in parameters:
        item.requires_grad_(name.startswith("visual.") or _fresh_part(name) is not None)


def _fresh_part(name: str) -> str | None:
    return next((part for part in reversed(FRESH_PARTS) if part in name), None)


def _decays(name: str, item: Parameter) -> bool:
    """Return whether a weight decays: matrices but not positions. Unlike the original, scalars do not decay."""
    return item.ndim > 1 and not name.endswith(".bias") and "positional_embedding" not in name


def _groups(trained: list[tuple[str, Parameter]], plan: list[tuple[list[str], float, float]]) -> list[Group]:
    found = dict(trained)
    return [
        {"params": [found[name] for name in names], "names": names, "lr": rate, "weight_decay": decay}
        for names, rate, decay in plan
        if names
    ]


def plain_optimiser(parameters: Named, *, kind: ActionClipOptimiser, optim: OptimConfig) -> torch.optim.Optimizer:
    """Return an optimiser with one rate; only matrices decay, but not embedding tables."""
    trained = [(name, item) for name, item in parameters if item.requires_grad]
    decayed = [name for name, item in trained if item.ndim >= 2 and "embedding" not in name]
    kept = [name for name, _ in trained if name not in set(decayed)]
    groups = _groups(trained, [(decayed, optim.lr, optim.weight_decay), (kept, optim.lr, 0.0)])
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum)
    maker = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
    return maker(groups, lr=optim.lr, betas=(optim.betas[0], optim.betas[1]))


def _actionclip(parameters: Named, optim: OptimConfig) -> torch.optim.Optimizer:
    return actionclip_optimiser(
        parameters,
        kind=optim.kind,
        lr=optim.lr,
        weight_decay=optim.weight_decay,
        vision_ratio=optim.vision_ratio,
        fusion_ratio=optim.fusion_ratio,
        momentum=optim.momentum,
    )


def _xclip(parameters: Named, optim: OptimConfig) -> torch.optim.Optimizer:
    if optim.kind != "adamw":
        raise ConfigError(f"optim.kind: X-CLIP's groups go with adamw, found {optim.kind}")
    return xclip_optimiser(parameters, lr=optim.lr, weight_decay=optim.weight_decay)


def _plain(parameters: Named, optim: OptimConfig) -> torch.optim.Optimizer:
    return plain_optimiser(parameters, kind=optim.kind, optim=optim)


GROUPINGS: Mapping[str, Callable[[Named, OptimConfig], torch.optim.Optimizer]] = {
    "plain": _plain,
    "actionclip": _actionclip,
    "xclip": _xclip,
}


def make_optimiser(parameters: Iterable[tuple[str, Parameter]], optim: OptimConfig) -> torch.optim.Optimizer:
    """Return the optimiser of a configuration; each group stores its peak rate under `peak`.

    Raises:
        ConfigError: the grouping is unknown, or all weights are frozen.
    """
    if optim.groups not in GROUPINGS:
        raise ConfigError(f"optim.groups: one of {', '.join(GROUPINGS)} is needed, found {optim.groups!r}")
    named = list(parameters)
    if not any(item.requires_grad for _, item in named):
        raise ConfigError("model.frozen: all weights are frozen")
    optimiser = GROUPINGS[optim.groups](named, optim)
    if optim.layer_decay < 1:
        optimiser.param_groups[:] = _with_layer_rates(optimiser.param_groups, optim.layer_decay)
    for group in optimiser.param_groups:
        group["peak"] = group["lr"]
    return optimiser


def _with_layer_rates(groups: list[Group], decay: float) -> list[Group]:
    """Split groups by depth: each block has `decay` times the rate of the next. The last block of a tower and what
    follows it have the full rate; the stem counts as a block before the first.
    """
    names = [name for group in groups for name in group["names"]]
    depths: dict[str, int] = {}
    for name in names:
        if found := BLOCK.match(name):
            depths[found[1]] = max(depths.get(found[1], 0), int(found[2]) + 1)
    split = []
    for group in groups:
        by_factor: dict[float, tuple[list[Parameter], list[str]]] = {}
        for item, name in zip(group["params"], group["names"], strict=True):
            factor = decay ** _blocks_above(name, depths)
            params, kept = by_factor.setdefault(factor, ([], []))
            params.append(item)
            kept.append(name)
        split += [
            {**group, "params": params, "names": kept, "lr": group["lr"] * factor}
            for factor, (params, kept) in by_factor.items()
        ]
    return split


def _blocks_above(name: str, depths: Mapping[str, int]) -> int:
    """Return the number of blocks above a weight in its tower; for a stem, all of them plus one."""
    if found := BLOCK.match(name):
        return depths[found[1]] - 1 - int(found[2])
    if not STEM.search(name):
        return 0
    tower = name.split(".")[0] + "."
    return max((depth for prefix, depth in depths.items() if prefix.startswith(tower)), default=0)
