"""Parts keep the classes' shares, never cut a group, and are the same wherever the set lies."""

from collections import Counter
from pathlib import Path

import pytest

from training.data.lists.rows import ListRow
from training.data.lists.splits import split_rows


def rows_at(base: Path, *, groups: int = 0) -> list[ListRow]:
    return [
        ListRow(path=base / name / f"{i}.mp4", name=name, group=f"person {i % groups}" if groups else "")
        for name in ("a", "b", "c")
        for i in range(40)
    ]


def test_every_class_keeps_its_share() -> None:
    rows = rows_at(Path("/x"))
    parts = split_rows(rows, {"val": 0.1, "test": 0.2}, seed=0, base=Path("/x"))
    counted = Counter((row.name, part) for row, part in zip(rows, parts, strict=True))
    assert counted == {(name, part): n for name in "abc" for part, n in (("val", 4), ("test", 8), ("train", 28))}


def test_a_set_that_was_moved_or_listed_otherwise_is_split_alike() -> None:
    here, there = rows_at(Path("/x")), rows_at(Path("/y/z"))[::-1]
    first = split_rows(here, {"val": 0.1}, seed=3, base=Path("/x"))
    assert first == split_rows(there, {"val": 0.1}, seed=3, base=Path("/y/z"))[::-1]
    assert first != split_rows(here, {"val": 0.1}, seed=4, base=Path("/x"))


@pytest.mark.parametrize("seed", range(5))
def test_a_group_lies_in_one_part(seed: int) -> None:
    rows = rows_at(Path("/x"), groups=8)
    parts = split_rows(rows, {"val": 0.25, "test": 0.125}, seed=seed, base=Path("/x"))
    part_of = {row.group: part for row, part in zip(rows, parts, strict=True)}
    assert all(part_of[row.group] == part for row, part in zip(rows, parts, strict=True))
    assert Counter(part_of.values()) == {"train": 5, "val": 2, "test": 1}


def test_a_class_of_one_video_trains_and_named_parts_are_kept() -> None:
    alone = [ListRow(path=Path("/x/a.mp4"), name="a")]
    assert split_rows(alone, {"val": 0.5}, seed=0, base=Path("/x")) == ["train"]
    named = [*alone, ListRow(path=Path("/x/b.mp4"), name="a", split="test")]
    assert split_rows(named, {"val": 0.5}, seed=0, base=Path("/x")) == ["train", "test"]
