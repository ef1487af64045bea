"""Zero-shot means that no class was trained on, as far as names tell."""

from pathlib import Path

import pytest

from training.data.lists.annotations import AnnotationError
from training.evaluation.errors import EvaluationError
from training.evaluation.zero_shot import check_disjoint, comparable_name, overlap, random_subsets, read_names


def test_names_are_compared_by_letters_and_digits() -> None:
    assert comparable_name("Ride_Bike") == comparable_name("ride bike") == comparable_name("RideBike")
    assert comparable_name("ＴＡＩ chi") == comparable_name("tai-chi")
    assert comparable_name("100m") != comparable_name("200m")
    assert comparable_name("?") != comparable_name("!")
    assert overlap(("RideBike", "waving"), ("ride bike", "jumping")) == (("RideBike", "ride bike"),)


def test_classes_of_training_are_listed_and_refused(tmp_path: Path) -> None:
    (tmp_path / "k400.csv").write_text("id,name\n0,Ride Bike\n1,jumping\n2,waving\n")
    (tmp_path / "k400.txt").write_text("Ride Bike\njumping\n\nwaving\n")
    assert read_names(tmp_path / "k400.csv") == read_names(tmp_path / "k400.txt")
    evaluated = ("ride_bike", "bowing", "waving")
    with pytest.raises(EvaluationError, match=r"2 of 3 classes .*ride_bike \(Ride Bike\), waving"):
        check_disjoint(evaluated, tmp_path / "k400.csv", is_overlap_allowed=False)
    allowed = check_disjoint(evaluated, tmp_path / "k400.txt", is_overlap_allowed=True)
    assert allowed.overlap == (("ride_bike", "Ride Bike"), ("waving", "waving"))
    assert allowed.num_train_classes == 3
    assert check_disjoint(("bowing",), tmp_path / "k400.txt", is_overlap_allowed=False).overlap == ()
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(AnnotationError, match="no class"):
        read_names(tmp_path / "empty.txt")


def test_draws_of_classes_depend_on_their_seed_and_number_alone() -> None:
    three = random_subsets(220, num_subsets=3, num_chosen=160, seed=0)
    assert [len(set(subset.classes)) for subset in three] == [160] * 3
    assert all(list(subset.classes) == sorted(subset.classes) for subset in three)
    assert len({subset.classes for subset in three}) == 3
    assert random_subsets(220, num_subsets=1, num_chosen=160, seed=0) == three[:1]
    assert random_subsets(220, num_subsets=1, num_chosen=160, seed=1)[0].classes != three[0].classes
    with pytest.raises(EvaluationError, match="2 to 5"):
        random_subsets(5, num_subsets=1, num_chosen=6, seed=0)
