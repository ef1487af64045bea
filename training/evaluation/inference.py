"""One pass over a list: views through the model, logits through the rules, rows into accumulators."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from serve.arrays import Float32Array
from serve.text.tokenizer import Tokenizer
from training.data.progress import progress_bar
from training.evaluation.accumulator import MetricAccumulator, UnreadableVideo, score_video
from training.evaluation.protocol import Protocol
from training.evaluation.scorer import Scorer, make_scorer
from training.evaluation.videos import LoadedVideo, VideoList, loader_of, view_reader
from training.evaluation.zero_shot import ClassSubset
from training.models.base import VideoTextModel


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """What a pass may use."""

    batch_size: int = 16  # views the model sees at a time
    workers: int = 4  # loading processes, at most one for each processor; 0: this one
    deadline_seconds: float = 30.0  # of one video


def evaluate_list(
    model: VideoTextModel,
    protocol: Protocol,
    listed: VideoList,
    *,
    tokenizer: Tokenizer,
    loader_options: LoaderOptions,
    subsets: Sequence[ClassSubset] = (),
    rank: int = 0,
    num_ranks: int = 1,
) -> list[MetricAccumulator]:
    """One accumulator of the whole class list, or one of each subset: its videos classified among its classes alone.

    Of several ranks each takes its own videos; `merge_ranks` makes one accumulator of theirs.

    Raises:
        InvalidVocabulary: a class name that cannot be a label or is too long, or two that read the same.
        EvaluationError: the model gives something that is no number.
    """
    model.eval()
    scorer = make_scorer(model, protocol, listed.class_names, tokenizer=tokenizer, batch_size=loader_options.batch_size)
    chosen = [np.array(subset.classes) for subset in subsets] or [np.arange(len(listed.class_names))]
    is_distribution = protocol.scoring.activation == "softmax"
    accumulators = [MetricAccumulator(len(classes), is_distribution=is_distribution) for classes in chosen]
    reader = view_reader(protocol, listed.class_names, deadline_seconds=loader_options.deadline_seconds)
    loader = loader_of(listed, reader, protocol, workers=loader_options.workers, rank=rank, num_ranks=num_ranks)
    with (
        closing(reader),
        progress_bar("videos", total=len(range(rank, listed.num_videos, num_ranks)), is_shown=rank == 0) as bar,
    ):
        for video, logits in _scored(loader, scorer, num_views=protocol.num_views):
            for accumulator, classes in zip(accumulators, chosen, strict=True):
                _add(accumulator, video, logits, classes=classes, scorer=scorer)
            bar.advance(is_failure=logits is None)
    return accumulators


def _scored(
    videos: Iterable[LoadedVideo], scorer: Scorer, *, num_views: int
) -> Iterator[tuple[LoadedVideo, Float32Array | None]]:
    """(video, logits [V, M, K]), None where it has no views; as many at a time as make up a batch of views."""
    waiting: list[LoadedVideo] = []
    for video in videos:
        if video.views is None:
            yield video, None
            continue
        waiting.append(video)
        if len(waiting) * num_views >= scorer.batch_size:
            yield from _through_model(waiting, scorer)
            waiting = []
    yield from _through_model(waiting, scorer)


def _through_model(videos: Sequence[LoadedVideo], scorer: Scorer) -> Iterator[tuple[LoadedVideo, Float32Array]]:
    if videos:
        views = torch.stack([video.views for video in videos if video.views is not None])  # [B, V, T, 3, S, S]
        yield from zip(videos, scorer.logits(views), strict=True)


def _add(
    accumulator: MetricAccumulator,
    video: LoadedVideo,
    logits: Float32Array | None,
    *,
    classes: np.ndarray,
    scorer: Scorer,
) -> None:
    """Note a video among some classes; one of another class is none of theirs."""
    label = int(np.searchsorted(classes, video.label)) if video.label in classes else -1
    if label < 0 and video.label >= 0:
        return
    if logits is None:
        lost = UnreadableVideo(index=video.place, path=video.path, label=label, reason=video.reason, group=video.group)
        accumulator.add(lost)
        return
    scores = scorer.scores(np.ascontiguousarray(logits[..., classes]))
    accumulator.add(
        score_video(
            scores,
            index=video.place,
            path=video.path,
            label=label,
            keep_scores=True,
            digest=video.digest,
            group=video.group,
        )
    )
