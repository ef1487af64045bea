"""Which clips count once: conventions of names, copies, declared groups, pairs."""

import numpy as np
import pytest

from serve.independence import assign_groups, count_groups, source_of_name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Archery/v_Archery_g01_c01.avi", "Archery/v_Archery_g01_c07.mp4"),
        ("v_HandStandPushups_g25_c01.avi", "v_HandStandPushups_g25_c02.avi"),
        ("train/abseiling/3vBb2lPFVLg_000012_000022.mp4", "val/3vBb2lPFVLg_000112_000122.webm"),
        ("a/-_hbPLsZvvo_000019_000029.mp4", "-_hbPLsZvvo_000029_000039.mp4"),
        ("April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "April_09_brush_hair_u_nm_np1_ba_goo_1.avi"),
        ("S001C001P003R002A013_rgb.avi", "S001C003P003R002A013_rgb.avi"),
        ("holiday_part1.mp4", "holiday_part12.mov"),
        ("x\\holiday clip 3.mp4", "holiday clip 4.mp4"),
        ("game (scene 1).mp4", "game (scene 2).mp4"),
        ("match_10.5-20.mp4", "match_20-30.5.mp4"),
        ("match_t0010_to_t0020.mp4", "match_t0020_to_t0030.mp4"),
    ],
)
def test_names_of_one_source(one: str, other: str) -> None:
    assert source_of_name(one) is not None
    assert source_of_name(one) == source_of_name(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("v_Archery_g01_c01.avi", "v_Archery_g02_c01.avi"),
        ("v_Archery_g01_c01.avi", "v_Bowling_g01_c01.avi"),
        ("3vBb2lPFVLg_000012_000022.mp4", "4vBb2lPFVLg_000012_000022.mp4"),
        ("S001C001P003R002A013_rgb.avi", "S001C001P003R001A013_rgb.avi"),
        ("holiday_part1.mp4", "birthday_part1.mp4"),
        ("clip 1.mp4", "clip 2.mp4"),
        ("clip_1.mp4", "clip_2.mp4"),
        ("1.mp4", "2.mp4"),
        ("PXL_20210101_123456789.mp4", "PXL_20210102_123456789.mp4"),
        ("VID_20210101_120000.mp4", "VID_20210101_130000.mp4"),
        ("person_1_2.mp4", "person_1_3.mp4"),
    ],
)
def test_names_without_a_common_source(one: str, other: str) -> None:
    first, second = source_of_name(one), source_of_name(other)
    assert first is None or second is None or first != second


@pytest.mark.parametrize("text", ["_" * 300, "a" * 100_000, "a" + " " * 100_000 + "1", "a_part1" * 50_000])
def test_names_longer_than_files_can_have_tell_of_no_source(text: str) -> None:
    """The patterns take time that grows with the square of the length, and clients send names of any length."""
    assert source_of_name(f"{text}.mp4") is None


def test_any_agreement_joins_and_joins_are_transitive() -> None:
    groups = assign_groups(
        names=["a_part1.mp4", "a_part2.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4"],
        digests=["1", "2", "2", "3", None, None],
        declared=["", "", "", "ann", "ann", ""],
        pairs=[(2, 3)],
    )
    assert groups.tolist() == [0, 0, 0, 0, 0, 1]


def test_groups_are_numbered_as_they_appear_and_do_not_depend_on_the_order_of_joins() -> None:
    digests = ["x", "y", "x", "z", "y"]
    assert assign_groups(digests=digests).tolist() == [0, 1, 0, 2, 1]
    names = [f"v_A_g{number:02d}_c01.avi" for number in (3, 1, 3, 2)]
    assert assign_groups(names=names).tolist() == [0, 1, 0, 2]
    assert assign_groups().tolist() == []


def test_sequences_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2, 1"):
        assign_groups(names=["a", "b"], digests=["1"])


def test_a_report_counts_groups_and_copies() -> None:
    digests = ["x"] * 25 + ["y", None]
    found = count_groups(assign_groups(digests=digests), digests=digests)
    assert (found.num_clips, found.num_independent, found.num_copies, found.largest_group) == (27, 3, 24, 25)
    assert found.has_dependent_clips
    assert not count_groups(np.arange(3)).has_dependent_clips
