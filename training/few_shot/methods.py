"""Few-shot methods that add offsets to the zero-shot logits: prototypes, as on the server, or a linear head."""

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
class LabelledFeatures:
    """Features, text logits and labels of videos."""

    features: Float32Array  # [N, D]
    text_logits: Float32Array  # [N, M, K]
    labels: Int64Array  # [N]

    def subset(self, indices: Int64Array) -> "LabelledFeatures":
        """Return the videos at `indices`, in that order."""
        return LabelledFeatures(
            features=self.features[indices], text_logits=self.text_logits[indices], labels=self.labels[indices]
        )


ExampleLogits = Callable[[Float32Array], Float32Array]  # features [N, D] -> offsets of logits [N, K]
# shots -> (function that computes offsets, parameters of the fit)
Method = Callable[[LabelledFeatures, ScoringContract], tuple[ExampleLogits, Mapping[str, Any]]]


def fit_prototype_offsets(
    shots: LabelledFeatures, contract: ScoringContract
) -> tuple[ExampleLogits, Mapping[str, Any]]:
    """Fit prototypes in the same way as the server; shots must be sorted by label."""
    fitted = fit_prototypes(
        shots.features,
        shots.labels,
        shots.text_logits.mean(axis=1, dtype=np.float32),
        num_labels=shots.text_logits.shape[2],
        logit_scale=contract.logit_scale,
    )
    return fitted.logits, asdict(fitted.fit)


def fit_linear_offsets(shots: LabelledFeatures, contract: ScoringContract) -> tuple[ExampleLogits, Mapping[str, Any]]:
    """Fit a linear head whose output is added to the text logits."""
    head = fit_linear_head(shots.features, shots.labels, shots.text_logits.mean(axis=1, dtype=np.float32))
    return head.logits, {"l2": head.l2, "chosen_by": head.chosen_by}


METHODS: Mapping[str, Method] = {"prototypes": fit_prototype_offsets, "linear": fit_linear_offsets}


def accuracy(videos: LabelledFeatures, example_logits: Float32Array | None, contract: ScoringContract) -> float:
    """Return the top-1 accuracy, scored as on the server.

    The offsets `example_logits` [N, K] are added to the logits of each template; None means zero-shot.
    """
    num_correct = 0
    for index, label in enumerate(videos.labels.tolist()):
        offsets = None if example_logits is None else example_logits[index : index + 1]
        logits = videos.text_logits[index : index + 1].astype(np.float32)  # one view [1, M, K]
        scores = scoring.reduce_logits(logits, contract, function=contract.activation, example_logits=offsets)
        num_correct += int(scoring.top_k(scores, 1)[0]) == label
    return num_correct / len(videos.labels)
