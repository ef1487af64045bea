"""Acceptance of labels: scaling of logits, thresholds, and the data they were fitted on.

A fit applies only to the model, function and templates it was fitted with. For other requests it is not applied, and
the response states why. Values set by hand apply to every model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from serve.arrays import Float32Array
from serve.scoring import IDENTITY_SCALING, LogitScaling, Scores

Criterion = Literal["score", "logit"]


class Fit(BaseModel):
    """The data that thresholds and temperature were fitted on, and the metrics measured on that data."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(description="`name@version` of the model.")
    function: Literal["softmax", "sigmoid"]
    templates: tuple[str, ...]
    num_clips: int
    num_crops: int
    vocabulary_version: int = Field(description="Vocabulary version that was used for the fit.")
    vocabulary_digest: str = Field(description="Digest of phrases and examples, to detect later changes.")
    num_known: int = Field(description="Number of clips that show a label.")
    num_unknown: int = Field(description="Number of clips that show none of the labels.")
    num_known_independent: int | None = Field(
        None,
        description="Number of groups of known clips; copies and clips of the same source count once. Null in older "
        "fits.",
    )
    num_unknown_independent: int | None = Field(
        None,
        description="Number of groups of unknown clips; the first clip of each sets the threshold. Null in older fits.",
    )
    num_copies: int | None = Field(
        None,
        description="Number of clips with the same content as an earlier clip; they are not used. Null in older fits.",
    )
    false_accept_rate: float = Field(description="Requested maximum fraction of unknown clips that are accepted.")
    false_accept_interval: tuple[float, float] = Field(
        description="95 % interval of the true false-accept rate, for clips from the same source as the unknown clips."
    )
    true_accept_rate: float | None = Field(description="Fraction of known clips that are accepted.")
    accuracy: float | None = Field(description="Fraction of known clips whose best label is correct.")
    auroc: float | None = Field(description="Probability that a known clip has a higher value than an unknown clip.")
    fpr_at_95_tpr: float | None = Field(
        description="Fraction of unknown clips accepted at the threshold that accepts 95 % of the known clips."
    )
    calibration_error_before: float | None = Field(description="Expected calibration error at temperature 1.")
    calibration_error_after: float | None
    fitted_at: str


class Acceptance(BaseModel):
    """The scaling of logits and the threshold that accepted labels must reach."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    criterion: Criterion = Field("score", description="The value that thresholds are compared with.")
    threshold: float | None = Field(None, description="Threshold of labels that define none; null means no threshold.")
    temperature: float = Field(1.0, gt=0, le=1e6, description="score = function((logit - bias) / temperature).")
    bias: float = Field(0.0, description="Subtracted from logits; has no effect with softmax.")
    fitted: Fit | None = Field(None, description="Null if the values were set by hand.")

    def inapplicable_reason(self, *, model: str, function: str, templates: Sequence[str]) -> str | None:
        """Return why this acceptance does not apply to a request; None if it does."""
        if self.criterion == "score" and function == "none":
            return "thresholds compare scores, and function_to_apply is none"
        if self.fitted is None:
            return None
        for name, fitted, requested in (
            ("model", self.fitted.model, model),
            ("function", self.fitted.function, function),
            ("templates", self.fitted.templates, tuple(templates)),
        ):
            if fitted != requested and not (name == "function" and requested == "none"):
                return f"fitted with {name} {_format_value(fitted)}, this request uses {_format_value(requested)}"
        return None

    def caveats(self, *, digest: str, num_clips: int, num_crops: int) -> list[str]:
        """Return differences between a request and the fit that may change the false-accept rate."""
        if self.fitted is None:
            return []
        caveats = []
        if self.fitted.vocabulary_digest != digest:
            caveats.append(f"labels, phrases or examples changed since version {self.fitted.vocabulary_version}")
        if (self.fitted.num_clips, self.fitted.num_crops) != (num_clips, num_crops):
            caveats.append(f"fitted with {self.fitted.num_clips} clips x {self.fitted.num_crops} crops")
        return caveats


def _format_value(value: object) -> str:
    return f"{len(value)} templates" if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, kw_only=True)
class AcceptanceRule:
    """The acceptance rule of one request."""

    criterion: Criterion = "score"
    thresholds: Float32Array | float = -math.inf  # [K], or a common value for all labels
    scale: LogitScaling = IDENTITY_SCALING

    def accepted(self, scores: Scores) -> NDArray[np.bool_]:
        """Return whether each label [K] reaches its threshold and scores above "none of the labels".

        Either condition is skipped if there are no values to compare with.
        """
        values = scores.scores if self.criterion == "score" else scores.logits
        if values is None:
            return np.ones(len(scores.logits), np.bool_)
        reached: NDArray[np.bool_] = values >= self.thresholds
        if scores.none_of_these_score is not None and scores.scores is not None:
            reached = reached & (scores.scores > scores.none_of_these_score)
        return reached
