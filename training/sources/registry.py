"""The sources of training data, by name, and the interface through which the trainer uses them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from training.config import ConfigError, TrainConfig
from training.data.lists.listing import KINDS
from training.models.base import VideoTextModel
from training.monitor import EvaluationReport


class Source(Protocol):
    """Yields training clips, defines the candidate phrases for classification, and evaluates the model."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the vocabulary of the trained model."""
        ...

    @property
    def templates(self) -> tuple[str, ...]:
        """Return the prompt templates."""
        ...

    @property
    def tasks(self) -> Mapping[str, tuple[slice, Tensor]]:
        """Return, per task, the slice of its phrases in `tokens()`, and a tensor of phrase indices.

        The tensor maps the index of a clip, as returned by `batches()`, to the index of its phrase within the slice.
        """
        ...

    @property
    def weights(self) -> Mapping[str, float]:
        """Return the weight of each task's loss."""
        ...

    @property
    def num_entries(self) -> int | None:
        """Return the number of samples per epoch; None if the source is endless."""
        ...

    def tokens(self, step: int) -> Tensor:
        """Return tokens [P, L] of all phrases at a step; a source may choose other templates in each step."""
        ...

    def sample_tokens(self, indices: Tensor, step: int) -> Tensor:
        """Return tokens [B, L] of the text of each clip at a step."""
        ...

    def batches(self, *, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (clips uint8 [b, T, 3, S, S], indices [b]) of this process for each step, starting at `first_step`."""
        ...

    def measure(self, model: VideoTextModel) -> EvaluationReport:
        """Return the metrics of a model on the evaluation data; the result is the same on all processes."""
        ...

    def card(self, history: Sequence[dict[str, Any]], *, seconds: float, clips: int) -> str:
        """Return the text of the model card; `history` are the metrics of earlier evaluations."""
        ...


def _demo(config: TrainConfig) -> Source:
    from training.demo.source import DemoSource

    return DemoSource(config)


def _order(config: TrainConfig) -> Source:
    from training.demo.temporal_order import TemporalOrderSource

    return TemporalOrderSource(config)


def _labelled(config: TrainConfig) -> Source:
    from training.sources.labelled import LabelledSource

    return LabelledSource(config)


SOURCES: dict[str, Callable[[TrainConfig], Source]] = {
    "demo": _demo,
    "order": _order,
    **dict.fromkeys(KINDS, _labelled),
    "shards": _labelled,
}


def make_source(config: TrainConfig) -> Source:
    """Return the source of a configuration.

    Raises:
        ConfigError: the name is unknown, or the source does not support an option.
        AnnotationError: a list of the source cannot be read.
    """
    if config.data.source not in SOURCES:
        raise ConfigError(f"data.source must be one of {', '.join(SOURCES)}, got {config.data.source!r}")
    return SOURCES[config.data.source](config)
