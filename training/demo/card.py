"""The demo model's card: purpose, training and measurements."""

from collections.abc import Sequence
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
    if not history:
        return text
    last = history[-1]
    return text + (
        f"Measured while training, on rendered clips with textures, bodies and seeds of their own, "
        f"top-1 over all labels: "
        f"seen {last['seen']:.2f}, held out {last['held_out']:.2f}; among the two orders of the same pictures "
        f"{last['order']:.2f}, with shuffled frames {last['order_shuffled']:.2f}.\n"
    )
