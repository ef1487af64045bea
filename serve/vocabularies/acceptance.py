"""When a label counts as seen: the scale of scores, thresholds, and what they were fitted on.

A fit holds for the model, function and templates it was measured with; with others it is not applied, and the answer
says so. Values set by hand hold for every model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from serve.arrays import Float32Array
from serve.scoring import PLAIN, Scale, Scores

Criterion = Literal["score", "logit"]


class Fit(BaseModel):
    """What thresholds and temperature were fitted on, and what was measured there."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(description="`name@version` of the model.")
    function: Literal["softmax", "sigmoid"]
    templates: tuple[str, ...]
    num_clips: int
    num_crops: int
    vocabulary_version: int = Field(description="Version whose labels were measured.")
    vocabulary_digest: str = Field(description="Of labels, phrases and examples, to notice later changes.")
    num_known: int = Field(description="Clips that show a label.")
    num_unknown: int = Field(description="Clips that show none.")
    false_accept_rate: float = Field(description="Share of unknown clips that may be accepted, as asked for.")
    false_accept_interval: tuple[float, float] = Field(
        description="95 % interval of the true rate, for clips like the unknown ones."
    )
    true_accept_rate: float | None = Field(description="Share of known clips that are accepted.")
    accuracy: float | None = Field(description="Share of known clips whose best label is theirs.")
    auroc: float | None = Field(description="Chance that a known clip gets more than an unknown one.")
    fpr_at_95_tpr: float | None = Field(description="Unknown clips accepted where 95 % of the known ones are.")
    calibration_error_before: float | None = Field(description="Expected calibration error at temperature 1.")
    calibration_error_after: float | None
    fitted_at: str


class Acceptance(BaseModel):
    """How logits become scores, and from which value on a label is accepted."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    criterion: Criterion = Field("score", description="What thresholds are compared with.")
    threshold: float | None = Field(None, description="Of labels without their own; null: none.")
    temperature: float = Field(1.0, gt=0, le=1e6, description="score = function((logit - bias) / temperature).")
    bias: float = Field(0.0, description="Of logits; without effect under softmax.")
    fitted: Fit | None = Field(None, description="Null where a person set the values.")

    def obstacle(self, *, model: str, function: str, templates: Sequence[str]) -> str | None:
        """Why this does not apply to a request; None where it does."""
        if self.criterion == "score" and function == "none":
            return "thresholds are of scores, and function_to_apply is none"
        if self.fitted is None:
            return None
        for what, fitted, found in (
            ("model", self.fitted.model, model),
            ("function", self.fitted.function, function),
            ("templates", self.fitted.templates, tuple(templates)),
        ):
            if fitted != found and not (what == "function" and found == "none"):
                return f"fitted with {what} {_shown(fitted)}, this request uses {_shown(found)}"
        return None

    def caveats(self, *, digest: str, num_clips: int, num_crops: int) -> list[str]:
        """What was different when the values were fitted, so that the promised rate need not hold."""
        if self.fitted is None:
            return []
        told = []
        if self.fitted.vocabulary_digest != digest:
            told.append(f"labels, phrases or examples changed since version {self.fitted.vocabulary_version}")
        if (self.fitted.num_clips, self.fitted.num_crops) != (num_clips, num_crops):
            told.append(f"fitted with {self.fitted.num_clips} clips x {self.fitted.num_crops} crops")
        return told


def _shown(value: object) -> str:
    return f"{len(value)} templates" if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Acceptance as one request uses it."""

    criterion: Criterion = "score"
    thresholds: Float32Array | float = -math.inf  # [K], or one for all labels
    scale: Scale = PLAIN

    def accepted(self, scores: Scores) -> NDArray[np.bool_]:
        """Which labels reach their threshold and are above the rivals [K]; each where there is one."""
        values = scores.scores if self.criterion == "score" else scores.logits
        if values is None:
            return np.ones(len(scores.logits), np.bool_)  # nothing to compare: no threshold was asked for
        reached: NDArray[np.bool_] = values >= self.thresholds
        if scores.rival_score is not None and scores.scores is not None:
            reached = reached & (scores.scores > scores.rival_score)
        return reached
