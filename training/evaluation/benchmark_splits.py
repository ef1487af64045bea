"""Evaluate splits of a benchmark: several lists, or random subsets of the classes of a list."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.text.tokenizer import Tokenizer
from training.distributed import rank_and_world_size
from training.evaluation.accumulator import gather_accumulators
from training.evaluation.inference import LoaderOptions, evaluate_list
from training.evaluation.protocol import Protocol
from training.evaluation.results import SplitResult, make_split_result
from training.evaluation.videos import VideoList
from training.evaluation.zero_shot import ClassSubset, Disjointness, check_disjoint, random_subsets
from training.models.base import VideoTextModel


@dataclass(frozen=True, kw_only=True)
class ZeroShotOptions:
    """Options of zero-shot evaluation."""

    train_classes: Path | None = None  # list of the training classes, which must not be evaluated
    allow_overlap: bool = False
    num_subsets: int = 0  # random class subsets; 0: evaluate all classes
    classes_per_subset: int = 0
    seed: int = 0


def evaluate_splits(
    model: VideoTextModel,
    protocol: Protocol,
    lists: Sequence[VideoList],
    *,
    tokenizer: Tokenizer,
    loader_options: LoaderOptions,
    zero_shot: ZeroShotOptions,
) -> tuple[SplitResult, ...]:
    """Evaluate all lists; invalid input raises before the first video is read.

    If there are several processes, each evaluates a part of the videos, and all return the same results.

    Raises:
        EvaluationError: classes overlap with the training classes, a list has fewer classes than a random subset, or no
            video of a split can be read.
        InvalidVocabulary: a class name is invalid, too long or a duplicate.
    """
    plans = [(each, _compare_with_training(each, zero_shot), _class_subsets(each, zero_shot)) for each in lists]
    results = []
    for video_list, class_overlap, subsets in plans:
        rank, world_size = rank_and_world_size()
        process_accumulators = evaluate_list(
            model,
            protocol,
            video_list,
            tokenizer=tokenizer,
            loader_options=loader_options,
            subsets=subsets,
            rank=rank,
            world_size=world_size,
        )
        accumulators = gather_accumulators(process_accumulators)
        parts = subsets or (ClassSubset(name="", classes=tuple(range(len(video_list.class_names)))),)
        for accumulator, part in zip(accumulators, parts, strict=True):
            results.append(
                make_split_result(
                    accumulator,
                    [video_list.class_names[index] for index in part.classes],
                    name=f"{video_list.path}: {part.name}" if part.name else video_list.path,
                    path=video_list.path,
                    sha256=video_list.sha256(),
                    class_overlap=class_overlap,
                )
            )
    return tuple(results)


def _compare_with_training(video_list: VideoList, options: ZeroShotOptions) -> Disjointness | None:
    if options.train_classes is None:
        return None
    return check_disjoint(video_list.class_names, options.train_classes, allow_overlap=options.allow_overlap)


def _class_subsets(video_list: VideoList, options: ZeroShotOptions) -> tuple[ClassSubset, ...]:
    return (
        random_subsets(
            len(video_list.class_names),
            num_subsets=options.num_subsets,
            classes_per_subset=options.classes_per_subset,
            seed=options.seed,
        )
        if options.num_subsets
        else ()
    )
