"""Evaluate a list in one pass: compute logits of each video's views, score them, and accumulate the results."""

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
from training.evaluation.videos import LoadedVideo, VideoList, make_loader, make_view_reader
from training.evaluation.zero_shot import ClassSubset
from training.models.base import VideoTextModel


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """Batch size, parallelism and time limit of loading and inference."""

    batch_size: int = 16  # views per forward pass
    workers: int = 4  # loading processes, at most one per processor; 0: load in the main process
    deadline_seconds: float = 30.0  # time limit for reading one video


def evaluate_list(
    model: VideoTextModel,
    protocol: Protocol,
    video_list: VideoList,
    *,
    tokenizer: Tokenizer,
    loader_options: LoaderOptions,
    subsets: Sequence[ClassSubset] = (),
    rank: int = 0,
    world_size: int = 1,
) -> list[MetricAccumulator]:
    """Evaluate a list; return one accumulator, or one per subset with the videos and classes of that subset.

    With several ranks, each evaluates a part of the videos; `gather_accumulators` merges their accumulators.

    Raises:
        InvalidVocabulary: a class name is invalid, too long or a duplicate.
        EvaluationError: the model's output is not finite.
    """
    model.eval()
    names, batch_size = video_list.class_names, loader_options.batch_size
    scorer = make_scorer(model, protocol, names, tokenizer=tokenizer, batch_size=batch_size)
    class_lists = [np.array(subset.classes) for subset in subsets] or [np.arange(len(names))]
    is_distribution = protocol.scoring.activation == "softmax"
    accumulators = [MetricAccumulator(len(classes), is_distribution=is_distribution) for classes in class_lists]
    reader = make_view_reader(protocol, names, deadline_seconds=loader_options.deadline_seconds)
    loader = make_loader(video_list, reader, protocol, workers=loader_options.workers, rank=rank, world_size=world_size)
    with (
        closing(reader),
        progress_bar("videos", total=len(range(rank, video_list.num_videos, world_size)), is_shown=rank == 0) as bar,
    ):
        for video, logits in _compute_logits(loader, scorer, num_views=protocol.num_views):
            for accumulator, classes in zip(accumulators, class_lists, strict=True):
                _add(accumulator, video, logits, classes=classes, scorer=scorer)
            bar.advance(is_failure=logits is None)
    return accumulators


def _compute_logits(
    videos: Iterable[LoadedVideo], scorer: Scorer, *, num_views: int
) -> Iterator[tuple[LoadedVideo, Float32Array | None]]:
    """Yield (video, logits [V, M, K]) computed in batches; logits are None for unreadable videos."""
    waiting: list[LoadedVideo] = []
    for video in videos:
        if video.views is None:
            yield video, None
            continue
        waiting.append(video)
        if len(waiting) * num_views >= scorer.batch_size:
            yield from _forward(waiting, scorer)
            waiting = []
    yield from _forward(waiting, scorer)


def _forward(videos: Sequence[LoadedVideo], scorer: Scorer) -> Iterator[tuple[LoadedVideo, Float32Array]]:
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
    """Add a video to the accumulator of a class subset; skip it if its label is outside the subset."""
    label = int(np.searchsorted(classes, video.label)) if video.label in classes else -1
    if label < 0 and video.label >= 0:
        return
    if logits is None:
        unreadable = UnreadableVideo(
            index=video.list_index, path=video.path, label=label, reason=video.reason, group=video.group
        )
        accumulator.add(unreadable)
        return
    scores = scorer.scores(np.ascontiguousarray(logits[..., classes]))
    accumulator.add(
        score_video(
            scores,
            index=video.list_index,
            path=video.path,
            label=label,
            keep_scores=True,
            digest=video.digest,
            group=video.group,
        )
    )
