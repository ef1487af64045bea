"""What a run can be trained on, by name; the trainer knows a source by these methods and nothing else."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from training.config import ConfigError, TrainConfig
from training.data.lists.listing import KINDS
from training.models.base import VideoTextModel
from training.monitor import EvaluationReport


class Source(Protocol):
    """Clips to train on, the phrases they are classified among, and how the result is measured."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The vocabulary a model trained on it is for."""
        ...

    @property
    def templates(self) -> tuple[str, ...]:
        """Prompts it is to be used with."""
        ...

    @property
    def tasks(self) -> Mapping[str, tuple[slice, Tensor]]:
        """Name -> (rows of the phrases, index of a clip -> row within them)."""
        ...

    @property
    def weights(self) -> Mapping[str, float]:
        """Of each task's loss."""
        ...

    @property
    def num_entries(self) -> int | None:
        """Of an epoch; None without end."""
        ...

    def tokens(self, step: int) -> Tensor:
        """Tokens [R, L] of all phrases at a step."""
        ...

    def sample_tokens(self, indices: Tensor, step: int) -> Tensor:
        """Tokens [b, L] of the text of each clip at a step."""
        ...

    def batches(self, *, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(clips uint8 [b, T, 3, S, S], indices [b]) of this process, for every step from `first_step` on."""
        ...

    def measure(self, model: VideoTextModel) -> EvaluationReport:
        """Figures of a model on what is kept for evaluation, the same on every process."""
        ...

    def card(self, history: Sequence[dict[str, Any]], *, seconds: float, clips: int) -> str:
        """What a model trained on it knows, for people."""
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
    """The source a configuration names.

    Raises:
        ConfigError: there is none of that name, or its options do not fit it.
        AnnotationError: its lists cannot be read.
    """
    if config.data.source not in SOURCES:
        raise ConfigError(f"data.source: one of {', '.join(SOURCES)} is needed, found {config.data.source!r}")
    return SOURCES[config.data.source](config)
