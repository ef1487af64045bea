"""The protocol of an evaluation: views, prompts and scoring.

Defaults are in the checkpoint's contracts, as published for its system; the caller can change them. Views are
crop-major, then clip; `mean_probability` is X-CLIP's sum of softmax over the views, `mean_logit` averages before
softmax.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from serve.contract import PreprocessContract, SamplingContract, ScoringContract, TextContract, ViewRule
from serve.text.prompts import check_templates
from training.checkpoints.native_format import Checkpoint
from training.config import DataConfig
from training.data.clips.rules import preprocess_of, sampling_of
from training.devices import Precision
from training.evaluation.errors import EvaluationError

MOST_CLIPS = 64
CROPS = (1, 3)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every choice that changes a figure, besides weights, videos and class names."""

    num_clips: int
    num_crops: int  # 1: the centre, 3: both ends of the longer side and the middle
    sampling: SamplingContract
    preprocess: PreprocessContract
    text: TextContract  # templates among them
    scoring: ScoringContract  # rules over templates and views
    precision: Precision = "fp32"  # of forward passes

    def __post_init__(self) -> None:
        if not 1 <= self.num_clips <= MOST_CLIPS or self.num_crops not in CROPS:
            raise EvaluationError(
                f"1 to {MOST_CLIPS} clips and {' or '.join(map(str, CROPS))} crops are possible, "
                f"found {self.num_clips} and {self.num_crops}"
            )
        if self.scoring.view_rule not in get_args(ViewRule):
            known = ", ".join(get_args(ViewRule))
            raise EvaluationError(f"a view rule is one of {known}, found {self.scoring.view_rule!r}")
        if self.precision not in get_args(Precision):
            raise EvaluationError(f"a precision is one of {', '.join(get_args(Precision))}, found {self.precision!r}")

    @property
    def num_views(self) -> int:
        """V."""
        return self.num_clips * self.num_crops

    def document(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def protocol_of(
    checkpoint: Checkpoint,
    *,
    num_clips: int = 1,
    num_crops: int = 1,
    view_rule: str = "",
    templates: Sequence[str] = (),
    system: str = "",
    precision: Precision = "fp32",
) -> Protocol:
    """The checkpoint's own protocol, changed where something is given.

    `system` names another one's sampling and cuts; T, S and the normalisation stay those of the weights.

    Raises:
        EvaluationError, ConfigError, InvalidVocabulary: a rule, system or template that does not exist or fit.
    """
    own = checkpoint.preprocess
    sampling, preprocess = checkpoint.sampling, own
    if system:
        data = DataConfig(
            system=system,
            image_size=own.image_size,
            num_frames=sampling.num_segments,
            mean=own.mean,
            std=own.std,
        )
        sampling, preprocess = sampling_of(data), preprocess_of(data)
    scoring = replace(checkpoint.scoring, view_rule=view_rule) if view_rule else checkpoint.scoring  # type: ignore[arg-type]
    text = replace(checkpoint.text, templates=check_templates(templates)) if templates else checkpoint.text
    return Protocol(
        num_clips=num_clips,
        num_crops=num_crops,
        sampling=sampling,
        preprocess=preprocess,
        text=text,
        scoring=scoring,
        precision=precision,
    )
