"""Evaluate splits of a benchmark: several lists, or random subsets of the classes of a list."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.text.tokenizer import Tokenizer
from training.distributed import rank_and_count
from training.evaluation.accumulator import merge_ranks
from training.evaluation.inference import LoaderOptions, evaluate_list
from training.evaluation.protocol import Protocol
from training.evaluation.results import SplitResult, split_result
from training.evaluation.videos import VideoList
from training.evaluation.zero_shot import ClassSubset, Disjointness, check_disjoint, random_subsets
from training.models.base import VideoTextModel


@dataclass(frozen=True, kw_only=True)
class ZeroShot:
    """Options of zero-shot evaluation."""

    train_classes: Path | None = None  # class list of training, which must be disjoint
    is_overlap_allowed: bool = False
    num_draws: int = 0  # number of random class subsets; 0: all classes
    classes_per_draw: int = 0
    seed: int = 0


def evaluate_splits(
    model: VideoTextModel,
    protocol: Protocol,
    lists: Sequence[VideoList],
    *,
    tokenizer: Tokenizer,
    loader_options: LoaderOptions,
    zero_shot: ZeroShot,
) -> tuple[SplitResult, ...]:
    """Evaluate all lists; invalid input is refused before the first video.

    Several processes share the videos, and all have the same results.

    Raises:
        EvaluationError: classes overlap with training, there are too few, or no video of a split can be read.
        InvalidVocabulary: a class name is invalid, too long or a duplicate.
    """
    plans = [(listed, _disjointness(listed, zero_shot), _subsets(listed, zero_shot)) for listed in lists]
    results = []
    for listed, disjointness, subsets in plans:
        rank, num_ranks = rank_and_count()
        own = evaluate_list(
            model,
            protocol,
            listed,
            tokenizer=tokenizer,
            loader_options=loader_options,
            subsets=subsets,
            rank=rank,
            num_ranks=num_ranks,
        )
        accumulators = merge_ranks(own)
        parts = subsets or (ClassSubset(name="", classes=tuple(range(len(listed.class_names)))),)
        for accumulator, part in zip(accumulators, parts, strict=True):
            results.append(
                split_result(
                    accumulator,
                    [listed.class_names[number] for number in part.classes],
                    name=f"{listed.path}: {part.name}" if part.name else listed.path,
                    path=listed.path,
                    sha256=listed.sha256(),
                    zero_shot=disjointness,
                )
            )
    return tuple(results)


def _disjointness(listed: VideoList, asked: ZeroShot) -> Disjointness | None:
    if asked.train_classes is None:
        return None
    return check_disjoint(listed.class_names, asked.train_classes, is_overlap_allowed=asked.is_overlap_allowed)


def _subsets(listed: VideoList, asked: ZeroShot) -> tuple[ClassSubset, ...]:
    return (
        random_subsets(
            len(listed.class_names), num_subsets=asked.num_draws, num_chosen=asked.classes_per_draw, seed=asked.seed
        )
        if asked.num_draws
        else ()
    )
