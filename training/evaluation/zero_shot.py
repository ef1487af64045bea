"""Zero-shot protocols: classes disjoint from training, and random subsets of a class list.

Names are compared by their letters: `ride_bike` equals `Ride bike`, but not `riding a bike`. Synonyms have to be found
manually.
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
IGNORED = re.compile(r"[\s_.,;:!?'\"()-]")  # dashes and quotes are converted to ASCII before


@dataclass(frozen=True, kw_only=True)
class Disjointness:
    """Result of the comparison with the classes of training."""

    train_classes: str  # file
    train_classes_sha256: str
    num_train_classes: int
    overlap: tuple[tuple[str, str], ...]  # (evaluated class, equal class of training)


@dataclass(frozen=True, kw_only=True)
class ClassSubset:
    """A subset of the classes of a list, with the name of its split."""

    name: str
    classes: tuple[int, ...]  # ascending


def comparable_name(name: str) -> str:
    """Return the form of a class name for comparison: letters, marks, digits and signs, without case.

    Only white space, dashes, underscores and punctuation are removed. Vowel signs are part of words.
    """
    folded = unicodedata.normalize("NFKC", caseless_form(name))
    return "".join(character for character in folded if not IGNORED.fullmatch(character)) or folded


def overlap(evaluated: Sequence[str], trained: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return (evaluated, trained) names that are equal when normalised."""
    known = {comparable_name(name): name for name in trained}
    return tuple((name, known[comparable_name(name)]) for name in evaluated if comparable_name(name) in known)


def check_disjoint(evaluated: Sequence[str], train_classes: Path, *, is_overlap_allowed: bool) -> Disjointness:
    """Compare with the class names of training, a class list in any format.

    Raises:
        AnnotationError: the file cannot be read.
        EvaluationError: classes are in both, and overlap is not allowed.
    """
    trained = read_class_list(train_classes, any_ids=True).names
    both = overlap(evaluated, trained)
    if both and not is_overlap_allowed:
        pairs = ", ".join(here if here == there else f"{here} ({there})" for here, there in both[:SHOWN])
        more = f" and {len(both) - SHOWN} more" if len(both) > SHOWN else ""
        raise EvaluationError(
            f"{len(both)} of {len(evaluated)} classes were trained on, so this is not zero-shot: {pairs}{more}; "
            "remove them from the class list, or give --allow-overlap"
        )
    return Disjointness(
        train_classes=str(train_classes),
        train_classes_sha256=file_sha256(train_classes),
        num_train_classes=len(trained),
        overlap=both,
    )


def random_subsets(num_classes: int, *, num_subsets: int, num_chosen: int, seed: int) -> tuple[ClassSubset, ...]:
    """Return independent random subsets of a class list; X-CLIP tests on 3 x 160 of 220 classes of Kinetics-600.

    Raises:
        EvaluationError: there are fewer classes.
    """
    if not 2 <= num_chosen <= num_classes:
        raise EvaluationError(f"2 to {num_classes} classes can be chosen from this list, found {num_chosen}")
    return tuple(
        ClassSubset(
            name=f"{num_chosen} classes, draw {number + 1}, seed {seed}",
            classes=tuple(
                sorted(np.random.default_rng((seed, number)).choice(num_classes, num_chosen, replace=False).tolist())
            ),
        )
        for number in range(num_subsets)
    )
