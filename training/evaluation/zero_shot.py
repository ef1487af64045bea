"""Zero-shot protocols: classes disjoint from training, and random subsets of a class list.

Names are compared ignoring case, spaces, dashes and punctuation: `ride_bike` equals `Ride bike`, but not
`riding a bike`. Synonyms have to be found manually.
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

MAX_LISTED = 20  # overlapping classes in a message
IGNORED = re.compile(r"[\s_.,;:!?'\"()-]")  # dashes and quotes have already been converted to ASCII


@dataclass(frozen=True, kw_only=True)
class Disjointness:
    """Result of the comparison with the training classes."""

    train_classes: str  # path of the list
    train_classes_sha256: str
    num_train_classes: int
    overlap: tuple[tuple[str, str], ...]  # (evaluated class, equal training class)


@dataclass(frozen=True, kw_only=True)
class ClassSubset:
    """A subset of the classes of a list, with the name of its split."""

    name: str
    classes: tuple[int, ...]  # ascending


def comparable_name(name: str) -> str:
    """Return the form in which class names are compared: letters, marks, digits and symbols, case-folded.

    Only white space, dashes, underscores and punctuation are removed. Combining marks are kept, because they
    distinguish words, e.g. as vowel signs of Devanagari.
    """
    folded = unicodedata.normalize("NFKC", caseless_form(name))
    return "".join(character for character in folded if not IGNORED.fullmatch(character)) or folded


def overlap(evaluated: Sequence[str], train_classes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return (evaluated class, training class) for all names that are equal when normalised."""
    train_names = {comparable_name(name): name for name in train_classes}
    keys = [(name, comparable_name(name)) for name in evaluated]
    return tuple((name, train_names[key]) for name, key in keys if key in train_names)


def check_disjoint(evaluated: Sequence[str], train_classes: Path, *, allow_overlap: bool) -> Disjointness:
    """Compare the evaluated class names with those of a training class list, a file in any supported format.

    Raises:
        AnnotationError: the list cannot be read.
        EvaluationError: classes are in both, and overlap is not allowed.
    """
    train_names = read_class_list(train_classes, any_ids=True).names
    both = overlap(evaluated, train_names)
    if both and not allow_overlap:
        pairs = ", ".join(name if name == other else f"{name} ({other})" for name, other in both[:MAX_LISTED])
        more = f" and {len(both) - MAX_LISTED} more" if len(both) > MAX_LISTED else ""
        raise EvaluationError(
            f"{len(both)} of {len(evaluated)} classes are training classes, so this is not zero-shot: {pairs}{more}; "
            "remove them from the class list, or pass --allow-overlap"
        )
    return Disjointness(
        train_classes=str(train_classes),
        train_classes_sha256=file_sha256(train_classes),
        num_train_classes=len(train_names),
        overlap=both,
    )


def random_subsets(
    num_classes: int, *, num_subsets: int, classes_per_subset: int, seed: int
) -> tuple[ClassSubset, ...]:
    """Return independent random subsets of `num_classes` classes; X-CLIP uses 3 subsets of 160 of 220 classes.

    Raises:
        EvaluationError: `classes_per_subset` is less than 2 or greater than `num_classes`.
    """
    if not 2 <= classes_per_subset <= num_classes:
        raise EvaluationError(
            f"the classes per subset must be 2 to {num_classes} for this list, got {classes_per_subset}"
        )
    return tuple(
        ClassSubset(
            name=f"{classes_per_subset} classes, draw {number + 1}, seed {seed}",
            classes=tuple(
                sorted(
                    np.random.default_rng((seed, number))
                    .choice(num_classes, classes_per_subset, replace=False)
                    .tolist()
                )
            ),
        )
        for number in range(num_subsets)
    )
