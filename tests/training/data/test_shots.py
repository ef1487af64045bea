"""Draws of K examples: balanced, nested, the same wherever the list lies and whatever its order."""

from pathlib import Path

import pytest

from serve.lists.errors import AnnotationError
from training.data.lists.rows import Entry
from training.data.lists.shots import sample_shots, sample_shots_to_train

BASE = Path("/data/set")
COUNTS = (10, 6, 3)


def entries(base: Path = BASE) -> list[Entry]:
    return [Entry(path=base / f"{label}" / f"{i}.mp4", label=label) for label, n in enumerate(COUNTS) for i in range(n)]


def names(pool: list[Entry], chosen: tuple[int, ...], base: Path = BASE) -> list[str]:
    return [str(pool[place].path.relative_to(base)) for place in chosen]


def test_draws_are_balanced_nested_and_differ_by_seed() -> None:
    pool = entries()
    small, large = sample_shots(pool, 3, shots=(4, 2), seed=0, num_held_out_groups=1)
    assert (small.shots, large.shots) == (2, 4)
    assert [pool[place].label for place in small.chosen] == [0, 0, 1, 1, 2, 2]
    assert [pool[place].label for place in large.chosen] == [0] * 4 + [1] * 4 + [2] * 2
    assert set(small.chosen) < set(large.chosen)
    assert small.remaining == large.remaining
    assert set(large.remaining) == set(range(len(pool))) - set(large.chosen)
    (other,) = sample_shots(pool, 3, shots=(4,), seed=1, num_held_out_groups=1)
    assert set(other.chosen) != set(large.chosen)


def test_classes_with_fewer_videos_say_so() -> None:
    (few,) = sample_shots(entries(), 4, shots=(6,), seed=0, num_held_out_groups=1)
    assert few.num_available == {1: 5, 2: 2, 3: 0}
    (whole,) = sample_shots(entries(), 3, shots=(6,), seed=0, num_held_out_groups=0)
    assert whole.num_available == {2: 3}


@pytest.mark.parametrize("change", ["order", "place", "a class more"])
def test_nothing_but_names_and_the_seed_decides(change: str) -> None:
    pool = entries()
    (draw,) = sample_shots(pool, 3, shots=(2,), seed=5, num_held_out_groups=1)
    base = Path("/elsewhere/copy") if change == "place" else BASE
    changed = entries(base)
    if change == "order":
        changed.reverse()
    elif change == "a class more":
        changed += [Entry(path=base / f"new {i}.mp4", label=3) for i in range(5)]
    (again,) = sample_shots(changed, 4, shots=(2,), seed=5, num_held_out_groups=1)
    assert names(changed, again.chosen, base)[:6] == names(pool, draw.chosen)


def test_a_run_of_few_shots_is_balanced_and_a_larger_k_holds_a_smaller() -> None:
    pool, classes = entries(), ("a", "b", "c")
    drawn = [sample_shots_to_train(pool, classes, shots=shots, seed=3) for shots in (1, 2)]
    assert [entry.label for entry in drawn[1]] == [0, 0, 1, 1, 2, 2]
    assert set(drawn[0]) < set(drawn[1])
    assert drawn[1] != sample_shots_to_train(pool, classes, shots=2, seed=4)
    with pytest.raises(AnnotationError, match=r"1 classes have fewer than 5 videos: c \(3\)"):
        sample_shots_to_train(pool, classes, shots=5, seed=3)


def test_no_video_of_a_shot_s_group_judges_and_a_whole_group_is_spared() -> None:
    pool = entries()
    groups = [place // 3 for place in range(len(pool))]  # some groups hold videos of two classes
    draws = sample_shots(pool, 3, shots=(1, 9), seed=2, num_held_out_groups=1, groups=groups)
    shown = {groups[place] for draw in draws for place in draw.chosen}
    judging = {groups[place] for place in draws[0].remaining}
    assert draws[0].remaining == draws[1].remaining
    assert not shown & judging and shown | judging == set(groups)
    assert {pool[place].label for place in draws[0].remaining} == {0, 1, 2}
    (alone,) = sample_shots(pool, 3, shots=(2,), seed=2, num_held_out_groups=1, groups=[0] * len(pool))
    assert alone.chosen == () and alone.num_available == {0: 0, 1: 0, 2: 0}
