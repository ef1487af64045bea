"""Zero-shot protocols: classes training never saw, and random halves of a class list.

The letters alone decide whether two names mean the same class: `ride_bike` is `Ride bike`, but `riding a bike` is
another name. Names that differ in their words and mean the same have to be found by eye.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve.files import file_sha256
from serve.text.normalization import caseless_form
from training.data.lists.class_lists import read_class_list
from training.evaluation.errors import EvaluationError

SHOWN = 20
IGNORED = re.compile(r"[\s_.,;:!?'\"()-]")  # of an ASCII form of dashes and quotes


@dataclass(frozen=True, kw_only=True)
class Disjointness:
    """What became of the comparison with the classes of training."""

    train_classes: str  # file
    train_classes_sha256: str
    num_train_classes: int
    overlap: tuple[tuple[str, str], ...]  # (class evaluated, class of training) that are one


@dataclass(frozen=True, kw_only=True)
class ClassSubset:
    """Some classes of a list, and a name for the split they make."""

    name: str
    classes: tuple[int, ...]  # rising


def comparable_name(name: str) -> str:
    """Letters, marks, digits and signs of a class name, without case: what is left of it is compared.

    Only white space, dashes, underscores and the marks of sentences are left out. Vowel signs are a part of words.
    """
    folded = unicodedata.normalize("NFKC", caseless_form(name))
    return "".join(character for character in folded if not IGNORED.fullmatch(character)) or folded


def overlap(evaluated: Sequence[str], trained: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(evaluated, trained) names that are the same once normalised."""
    known = {comparable_name(name): name for name in trained}
    return tuple((name, known[comparable_name(name)]) for name in evaluated if comparable_name(name) in known)


def check_disjoint(evaluated: Sequence[str], train_classes: Path, *, is_overlap_allowed: bool) -> Disjointness:
    """Compare with the class names of training, a class list in any of its forms.

    Raises:
        AnnotationError: the file cannot be read.
        EvaluationError: classes are in both, and that is not allowed.
    """
    trained = read_class_list(train_classes, any_ids=True).names
    both = overlap(evaluated, trained)
    if both and not is_overlap_allowed:
        pairs = ", ".join(here if here == there else f"{here} ({there})" for here, there in both[:SHOWN])
        more = f" and {len(both) - SHOWN} more" if len(both) > SHOWN else ""
        raise EvaluationError(
            f"{len(both)} of {len(evaluated)} classes were trained on, so this is not zero-shot: {pairs}{more}; "
            "take them out of the class list, or say --allow-overlap"
        )
    return Disjointness(
        train_classes=str(train_classes),
        train_classes_sha256=file_sha256(train_classes),
        num_train_classes=len(trained),
        overlap=both,
    )


def random_subsets(num_classes: int, *, num_subsets: int, num_chosen: int, seed: int) -> tuple[ClassSubset, ...]:
    """Subsets of a class list, independent of each other, as X-CLIP tests on three times 160 of Kinetics-600's 220.

    Raises:
        EvaluationError: there are not so many classes.
    """
    if not 2 <= num_chosen <= num_classes:
        raise EvaluationError(f"2 to {num_classes} classes can be drawn of this list, found {num_chosen}")
    return tuple(
        ClassSubset(
            name=f"{num_chosen} classes, draw {number + 1}, seed {seed}",
            classes=tuple(
                sorted(np.random.default_rng((seed, number)).choice(num_classes, num_chosen, replace=False).tolist())
            ),
        )
        for number in range(num_subsets)
    )
