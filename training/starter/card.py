"""Make the model card of the starter model; its first paragraph is the notice in every response.

`python -m training starter-proof VIDEOS --record` writes the figures to `figures.json`.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

FIGURES = files(__package__) / "figures.json"

CARD = """\
This model matches objects and scenes that it sees in a few frames to your words; it does not see motion. Among
{labels} everyday labels its first answer was right for {en[top1_hits]} of {clips} real clips, and one of its first
five for {en[top5_hits]}; for a stronger model run: make run MODEL=PE-Core-B-16

Frames go through EfficientNet-Lite2 (ImageNet). The likeliest of its 1,000 classes become a point of a text space, the
mean of the embeddings of their WordNet names (ConSE, arXiv:1312.5650; no training video was used). English labels are
embedded by all-MiniLM-L6-v2, labels in 15 other languages by the multilingual Universal Sentence Encoder; a gate
chooses by the words. Example clips are compared by the image network's pooled features. Weights are stored in 8 bits
and word tables in 4; TensorRT does not take such tables, so it cannot run this model.

Measured by `python -m training starter-proof` on {clips} clips, right first / among the first five, of {labels}
labels: English {en[top1_hits]} / {en[top5_hits]}, Spanish {es[top1_hits]} / {es[top5_hits]}, German
{de[top1_hits]} / {de[top5_hits]}, Chinese {zh[top1_hits]} / {zh[top5_hits]}; other languages were not measured. Of
the {default[labels]} labels of the default vocabulary: {default[top1_hits]} / {default[top5_hits]}. With the labels
exchanged among each other the shares are {permuted[top1]:.2f} and {permuted[top5]:.2f}. One clip is about 2 points; the
95 % intervals are about 15 points wide to each side.
"""


def make_card() -> str:
    """Return the card with the recorded figures."""
    return format_card(json.loads(FIGURES.read_text(encoding="utf-8")))


def format_card(figures: Mapping[str, Any]) -> str:
    """Return the card with the given figures."""
    return CARD.format(
        clips=figures["clips"],
        labels=figures["labels"],
        default=figures["default_vocabulary"],
        permuted=figures["permuted"],
        **figures["languages"],
    )
