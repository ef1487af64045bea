"""Zero-shot means that no class was trained on, as far as names tell."""

from pathlib import Path

import pytest

from serve.lists.errors import AnnotationError
from training.evaluation.errors import EvaluationError
from training.evaluation.zero_shot import check_disjoint, comparable_name, overlap, random_subsets


def test_names_are_compared_by_letters_and_digits() -> None:
    assert comparable_name("Ride_Bike") == comparable_name("ride bike") == comparable_name("RideBike")
    assert comparable_name("ＴＡＩ chi") == comparable_name("tai-chi")
    assert comparable_name("100m") != comparable_name("200m")
    assert comparable_name("?") != comparable_name("!")
    assert overlap(("RideBike", "waving"), ("ride bike", "jumping")) == (("RideBike", "ride bike"),)


def test_classes_of_training_are_listed_and_refused(tmp_path: Path) -> None:
    (tmp_path / "k400.csv").write_text("id,name\n0,Ride Bike\n1,jumping\n2,waving\n")
    (tmp_path / "k400.txt").write_text("Ride Bike\njumping\n\nwaving\n")
    evaluated = ("ride_bike", "bowing", "waving")
    with pytest.raises(EvaluationError, match=r"2 of 3 classes .*ride_bike \(Ride Bike\), waving"):
        check_disjoint(evaluated, tmp_path / "k400.csv", allow_overlap=False)
    allowed = check_disjoint(evaluated, tmp_path / "k400.txt", allow_overlap=True)
    assert allowed.overlap == (("ride_bike", "Ride Bike"), ("waving", "waving"))
    assert allowed.num_train_classes == 3
    assert check_disjoint(("bowing",), tmp_path / "k400.txt", allow_overlap=False).overlap == ()
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(AnnotationError, match="the class list is empty"):
        check_disjoint(("bowing",), tmp_path / "empty.txt", allow_overlap=False)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("पीना", "पाना"),  # Hindi: drink, get
        ("दौड़ना", "दूड़ना"),
        ("ร้อง", "รอง"),  # Thai: a tone mark
        ("কাটা", "কাটি"),  # Bengali
        ("قَرَأَ", "قُرِئَ"),
        ("C++", "C#"),
        ("2+2", "2-2 "),
        ("İ", "ı"),
    ],
)
def test_vowel_signs_tones_and_signs_are_parts_of_words(one: str, other: str) -> None:
    assert comparable_name(one) != comparable_name(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("दौड़ना", "दौड\u093cना"),  # composed and decomposed
        ("café", "cafe\u0301"),
        ("Straße", "STRASSE"),
        ("ﬁshing", "fishing"),
        ("rock'n'roll", "rock’n’roll"),
        ("tai chi", "tai\u2013chi"),
        ("Ελλάς", "ΕΛΛΆΣ"),
    ],
)
def test_what_unicode_calls_compatible_is_the_same(one: str, other: str) -> None:
    assert comparable_name(one) == comparable_name(other)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classInd.txt", "1 Archery\n2 BabyCrawling\n"),
        ("labels.json", '{"Archery": "0", "Baby crawling": "1"}'),
        ("names.json", '["Baby crawling", "Archery"]'),
        ("ntu.txt", "A1. archery\nA2. baby crawling\n"),
        ("labels.tsv", "id\tname\n0\tArchery\n1\tBaby crawling\n"),
        ("subset.csv", "id,name\n17,Archery\n401,Baby crawling\n"),
        ("excel.csv", "\ufeffid;name\r\n0;Archery\r\n1;Baby crawling\r\n"),
        ("names.txt", "Archery\nBaby crawling\n"),
    ],
)
def test_classes_of_training_come_in_every_form_of_a_class_list(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(EvaluationError, match="2 of 3 classes"):
        check_disjoint(("archery", "Baby_Crawling", "waving"), tmp_path / name, allow_overlap=False)
    (tmp_path / name).write_text(text, encoding="utf-16")
    assert check_disjoint(("waving",), tmp_path / name, allow_overlap=False).num_train_classes == 2


def test_draws_of_classes_depend_on_their_seed_and_number_alone() -> None:
    three = random_subsets(220, num_subsets=3, classes_per_subset=160, seed=0)
    assert [len(set(subset.classes)) for subset in three] == [160] * 3
    assert all(list(subset.classes) == sorted(subset.classes) for subset in three)
    assert len({subset.classes for subset in three}) == 3
    assert random_subsets(220, num_subsets=1, classes_per_subset=160, seed=0) == three[:1]
    assert random_subsets(220, num_subsets=1, classes_per_subset=160, seed=1)[0].classes != three[0].classes
    with pytest.raises(EvaluationError, match="2 to 5"):
        random_subsets(5, num_subsets=1, classes_per_subset=6, seed=0)
