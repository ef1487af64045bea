"""Few-shot methods that add to the zero-shot logits: prototypes as on the server, or a linear head."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from serve import scoring
from serve.arrays import Float32Array, Int64Array
from serve.contract import ScoringContract
from serve.vocabularies.prototypes import fit_prototypes
from training.few_shot.linear_head import fit_linear_head


@dataclass(frozen=True, kw_only=True)
class VideoSet:
    """Features and text logits of labelled videos."""

    features: Float32Array  # [N, D]
    text_logits: Float32Array  # [N, M, K]
    labels: Int64Array  # [N]

    def part(self, places: Int64Array) -> "VideoSet":
        """Return a subset in the given order."""
        return VideoSet(
            features=self.features[places], text_logits=self.text_logits[places], labels=self.labels[places]
        )


ExampleLogits = Callable[[Float32Array], Float32Array]  # video features [N, D] -> offsets of logits [N, K]
Method = Callable[
    [VideoSet, ScoringContract], tuple[ExampleLogits, Mapping[str, Any]]
]  # shots -> offsets, facts of the fit


def prototypes(shots: VideoSet, contract: ScoringContract) -> tuple[ExampleLogits, Mapping[str, Any]]:
    """Fit the server's mixture of text and prototypes; shots are sorted by label."""
    fitted = fit_prototypes(
        shots.features,
        shots.labels,
        shots.text_logits.mean(axis=1, dtype=np.float32),
        num_labels=shots.text_logits.shape[2],
        logit_scale=contract.logit_scale,
    )
    return fitted.logits, asdict(fitted.mixture)


def linear(shots: VideoSet, contract: ScoringContract) -> tuple[ExampleLogits, Mapping[str, Any]]:
    """Fit a linear head as an offset to the text logits."""
    head = fit_linear_head(shots.features, shots.labels, shots.text_logits.mean(axis=1, dtype=np.float32))
    return head.logits, {"l2": head.l2, "chosen_by": head.chosen_by}


METHODS: Mapping[str, Method] = {"prototypes": prototypes, "linear": linear}


def accuracy(videos: VideoSet, example_logits: Float32Array | None, contract: ScoringContract) -> float:
    """Return top-1 by the contract's rules; offsets are added to the logits of each template, as on the server."""
    hits = 0
    for place, label in enumerate(videos.labels.tolist()):
        added = None if example_logits is None else example_logits[place : place + 1]
        logits = videos.text_logits[place : place + 1].astype(np.float32)  # one view [1, M, K]
        scores = scoring.reduce_logits(logits, contract, function=contract.activation, example_logits=added)
        hits += int(scoring.top_k(scores, 1)[0]) == label
    return hits / len(videos.labels)
