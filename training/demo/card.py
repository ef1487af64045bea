"""The demo model's card: purpose, training and measurements."""

from collections.abc import Mapping, Sequence
from typing import Any

from training.demo.captions import combinations, held_out

TEXT = """\
This model knows rendered figures only. It was trained from nothing on videos drawn by `python -m training demo-data`:
an articulated person in plain clothes doing one of {num_actions} actions. On real video its answers mean nothing. For
real video, `make run MODEL=PE-Core-B-16` fetches, exports and serves real CLIP weights.

Vocabulary: {num_labels} labels (action, colour of the clothes, direction of travel); {num_held_out} of them were never
shown in training. Recipe: `make demo-model` renders {clips:,} clips while it trains{round}, {minutes:.0f} minutes on
two processor cores; a small ActionCLIP (convolutions with temporal shift, Transf head, causal text tower).
"""
MEASURED = """\
Measured while training, on rendered clips with textures, bodies and seeds of their own, with 95 % intervals: top-1 over
all labels {seen} for seen combinations and {held_out} for held-out ones;
among the two orders of the same pictures {order}, with shuffled frames {order_shuffled}.
"""
LAST_ROUND = " in its last round"


def demo_card(history: Sequence[dict[str, Any]], *, seconds: float, clips: int, is_last_round: bool) -> str:
    """Return the card, with the latest metrics of the training run."""
    text = TEXT.format(
        num_actions=len({item.action for item in combinations()}),
        num_labels=len(combinations()),
        num_held_out=len(held_out()),
        clips=clips,
        round=LAST_ROUND if is_last_round else "",
        minutes=max(seconds / 60, 1),
    )
    if not history or "intervals" not in history[-1]:  # earlier versions recorded none
        return text
    last = history[-1]
    shares = {name: _share(last, name) for name in ("seen", "held_out", "order", "order_shuffled")}
    return text + MEASURED.format(**shares)


def _share(figures: Mapping[str, Any], name: str) -> str:
    """Format a share with its number of clips and its interval."""
    low, high = figures["intervals"][name]
    return f"{figures[name]:.2f} of {figures['counts'][name]} ({low:.2f} to {high:.2f})"
