"""Which parameters move how fast: the groupings of both systems, over our names.

A group is what torch's optimisers take: {params, names, lr, weight_decay}. Frozen parameters are in none.
"""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch.nn import Parameter

Named = Iterable[tuple[str, Parameter]]
Group = dict[str, Any]

BETAS = (0.9, 0.98)  # of both systems, as CLIP's
EPS = 1e-8
ADAM_DECAY = 0.2  # ActionCLIP's "adam" takes this whatever the recipe says
FRESH_FACTOR = 10  # X-CLIP's rate of new parts over that of CLIP's
FRESH_PARTS = ("mit", "prompts", "message_")  # of X-CLIP, in the order of the original's groups

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
    """ActionCLIP's optimiser; weight decay falls on every parameter, norms and the logit scale too.

    AdamW has three groups: the text side at `lr`, `visual` at `vision_ratio` and `fusion` at `fusion_ratio` times that.
    The two others keep CLIP in one group.
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
    """X-CLIP's AdamW: new parts ten times faster, matrices alone decay; at most eight groups."""
    trained = [(name, item) for name, item in parameters if item.requires_grad]
    plan = []
    for part in (None, *FRESH_PARTS):
        names = [name for name, _ in trained if _fresh_part(name) == part]
        rate = lr if part is None else lr * FRESH_FACTOR
        decayed = [name for name, item in trained if name in names and _decays(name, item)]
        plan += [(decayed, rate, weight_decay), ([name for name in names if name not in decayed], rate, 0.0)]
    return torch.optim.AdamW(_groups(trained, plan), lr=lr, betas=BETAS, eps=EPS)


def freeze_xclip_text_(parameters: Named) -> None:
    """Freeze what X-CLIP freezes: all but vision tower, frame integration and prompts; the logit scale too."""
    for name, item in parameters:
        item.requires_grad_(name.startswith("visual.") or _fresh_part(name) is not None)


def _fresh_part(name: str) -> str | None:
    return next((part for part in reversed(FRESH_PARTS) if part in name), None)


def _decays(name: str, item: Parameter) -> bool:
    """Matrices, but no positions; a scalar such as the logit scale is spared, which the original forgets."""
    return item.ndim > 1 and not name.endswith(".bias") and "positional_embedding" not in name


def _groups(trained: list[tuple[str, Parameter]], plan: list[tuple[list[str], float, float]]) -> list[Group]:
    found = dict(trained)
    return [
        {"params": [found[name] for name in names], "names": names, "lr": rate, "weight_decay": decay}
        for names, rate, decay in plan
        if names
    ]
