"""The protocol of an evaluation: views, prompts and scoring.

The defaults are the checkpoint's contracts; the caller can override them. Views are ordered by crop, then by clip.
`mean_probability` averages the softmax over the views, as in X-CLIP; `mean_logit` averages the logits before softmax.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from serve.contract import PreprocessContract, SamplingContract, ScoringContract, TextContract, ViewRule
from serve.text.prompts import check_templates
from training.checkpoints.native_format import Checkpoint
from training.config import DataConfig
from training.data.clips.rules import make_preprocess_contract, make_sampling_contract
from training.devices import Precision
from training.evaluation.errors import EvaluationError

MAX_CLIPS = 64
CROPS = (1, 3)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every choice that changes a metric, besides weights, videos and class names."""

    num_clips: int
    num_crops: int  # 1: centre; 3: both ends and the centre of the longer side
    sampling: SamplingContract
    preprocess: PreprocessContract
    text: TextContract  # templates and tokenizer
    scoring: ScoringContract  # rules over templates and views
    precision: Precision = "fp32"  # of the forward passes

    def __post_init__(self) -> None:
        if not 1 <= self.num_clips <= MAX_CLIPS or self.num_crops not in CROPS:
            raise EvaluationError(
                f"clips must be 1 to {MAX_CLIPS} and crops {' or '.join(map(str, CROPS))}, "
                f"got {self.num_clips} clips and {self.num_crops} crops"
            )
        if self.scoring.view_rule not in get_args(ViewRule):
            known = ", ".join(get_args(ViewRule))
            raise EvaluationError(f"the view rule must be one of {known}, got {self.scoring.view_rule!r}")
        if self.precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise EvaluationError(f"the precision must be one of {known}, got {self.precision!r}")

    @property
    def num_views(self) -> int:
        """V, the number of views per video."""
        return self.num_clips * self.num_crops

    def document(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        return asdict(self)


def make_protocol(
    checkpoint: Checkpoint,
    *,
    num_clips: int = 1,
    num_crops: int = 1,
    view_rule: str = "",
    templates: Sequence[str] = (),
    system: str = "",
    precision: Precision = "fp32",
) -> Protocol:
    """Return the protocol of a checkpoint with overrides; empty arguments keep the checkpoint's values.

    `system` (plain, actionclip or xclip) replaces the sampling and cropping; T, S, mean and std remain those of the
    checkpoint.

    Raises:
        EvaluationError, ConfigError, InvalidVocabulary: a rule, a system or a template is unknown or invalid.
    """
    sampling, preprocess = checkpoint.sampling, checkpoint.preprocess
    if system:
        data = DataConfig(
            system=system,
            image_size=preprocess.image_size,
            num_frames=sampling.num_segments,
            mean=preprocess.mean,
            std=preprocess.std,
        )
        sampling, preprocess = make_sampling_contract(data), make_preprocess_contract(data)
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
