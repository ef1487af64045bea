"""Lists and folders as they are found in the field: what comes out, or what the error names."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve.errors import InvalidVocabulary
from serve.lists.errors import AnnotationError
from serve.vocabularies.formats import parse
from tests.shared_data import SHARED, needs_shared
from training.__main__ import app
from training.data.lists.class_lists import read_class_names
from training.data.lists.labels import index_labels
from training.data.lists.listing import read_listing
from training.data.lists.rows import ListOptions
from training.evaluation.errors import EvaluationError
from training.evaluation.videos import read_list
from training.evaluation.zero_shot import check_disjoint

FIELD = SHARED / "data" / "field_training"
NUMBERS = FIELD / "numbers"
pytestmark = needs_shared


def check(*arguments: object, tmp_path: Path) -> tuple[int, dict[str, object]]:
    small = ("--image-size", "32", "--num-frames", "4", "--workers", "1", "--samples", "0")
    result = CliRunner().invoke(app, ["check", *map(str, arguments), *small, "--sheet", str(tmp_path / "sheet.png")])
    return result.exit_code, json.loads(result.stdout.splitlines()[-1])


def test_parts_and_annotations_beside_each_other_are_no_classes() -> None:
    listing = read_listing(FIELD / "layout_train_val_annotations")
    assert {row.name for row in listing.rows} == {"Archery", "BabyCrawling"}
    assert listing.splits == ("train", "val")
    assert any("annotations/ has no readable video" in note for note in listing.notes)


def test_a_part_is_chosen_from_a_column_called_subset() -> None:
    listed = read_list(str(FIELD / "split" / "subset.csv"), split="test")
    assert [Path(path).name for path in listed.paths] == ["v_Archery_g02_c01.mp4", "v_BabyCrawling_g02_c01.mp4"]


def test_classes_of_training_are_found_in_their_published_form() -> None:
    folder = FIELD / "trainclasses"
    with pytest.raises(EvaluationError, match="2 of 2 classes"):
        check_disjoint(("Archery", "BabyCrawling"), folder / "classInd.txt", allow_overlap=False)
    hindi = read_class_names(folder / "hindi_eval.csv")
    assert check_disjoint(hindi, folder / "hindi_train.csv", allow_overlap=False).overlap == ()


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda: read_listing(FIELD / "commas/list.csv"), r"list\.csv, line 3: .* something and something"),
        (lambda: read_class_names(FIELD / "commas/classes.csv"), r"classes\.csv, line 3: .* something and something"),
        (lambda: read_class_names(FIELD / "commas/classes_short_row.csv"), r"classes_short_row\.csv, line 3"),
    ],
)
def test_fields_that_do_not_fit_the_header_are_named_by_file_and_line(read: object, words: str) -> None:
    with pytest.raises(AnnotationError, match=words):
        read()  # type: ignore[operator]


def test_a_label_with_an_unquoted_comma_makes_no_synonym() -> None:
    with pytest.raises(InvalidVocabulary, match=r"line 3: .* something and something"):
        parse((FIELD / "commas/vocabulary_synonyms.csv").read_bytes(), "text/csv")


def test_names_beside_numbers_are_the_classes_and_numbers_alone_are_none() -> None:
    listing = read_listing(NUMBERS / "label_and_name.csv")
    assert index_labels(listing.rows, listing).names == ("archery", "baby crawling")
    with pytest.raises(AnnotationError, match="cannot be used as prompts"):
        read_list(str(NUMBERS / "label_only.csv"))


@pytest.mark.parametrize("name", ["one_based.txt", "utf16.txt"])
def test_labels_from_one_are_refused_until_that_is_said(name: str) -> None:
    classes = NUMBERS / "classes.csv"
    with pytest.raises(AnnotationError, match=r"no label is 0 \('Archery'\)"):
        read_list(str(NUMBERS / name), classes=classes)
    listed = read_list(str(NUMBERS / name), classes=classes, options=ListOptions(first_label=1))
    assert [listed.class_names[entry.label] for entry in listed.entries] == ["Archery", "Baby Crawling"]


def test_a_split_file_of_hmdb51_is_refused_by_name_and_understood_when_asked_for(tmp_path: Path) -> None:
    path = NUMBERS / "hmdb_archery_test_split1.txt"
    with pytest.raises(AnnotationError, match="HMDB51"):
        read_listing(path)
    with pytest.raises(AnnotationError, match="HMDB51"):
        read_listing(path, ListOptions(kind="videos"))
    listing = read_listing(path, ListOptions(kind="hmdb51", root=FIELD / "clips"))
    assert [row.split for row in listing.rows] == ["train", "test"]


@pytest.mark.parametrize(
    ("name", "is_fit"), [("tabs", True), ("two_spaces", True), ("right", True), ("zero_based", True)]
)
def test_frame_lists_with_other_separators_and_first_numbers(name: str, is_fit: bool, tmp_path: Path) -> None:
    assert read_listing(FIELD / "frames" / f"{name}.txt").kind == "frames"
    classes = FIELD / "numbers" / "classes.csv"
    status, found = check(FIELD / "frames" / f"{name}.txt", "--classes", classes, tmp_path=tmp_path)
    assert (status, found["is_fit"]) == (0, True)


def test_frame_counts_that_do_not_match_are_an_error(tmp_path: Path) -> None:
    classes = FIELD / "numbers" / "classes.csv"
    status, found = check(FIELD / "frames" / "counts_too_few.txt", "--classes", classes, tmp_path=tmp_path)
    assert status == 1
    assert "the list says 6 frames, the folder contains 24" in json.dumps(found["findings"])


def test_the_decoder_reads_a_file_of_an_unknown_suffix() -> None:
    assert [(row.path.name, row.name) for row in read_listing(FIELD / "suffix").rows] == [
        ("a.mp4", "A"),
        ("b.vob", "B"),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_clips_of_one_group_stay_on_one_side(seed: int, tmp_path: Path) -> None:
    arguments = ["prepare", FIELD / "groups", tmp_path / "out", "--lists-only", "--val", "0.3", "--seed", seed]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    lists = {part: (tmp_path / "out" / f"videos_{part}.txt").read_text().splitlines() for part in ("train", "val")}
    sides = {
        part: {Path(line.rsplit(" ", 1)[0]).name.rsplit("_", 1)[0] for line in lines} for part, lines in lists.items()
    }
    assert not sides["train"] & sides["val"]
    assert len(sides["val"]) == 2 and len(sides["train"]) == 4
    assert json.loads(result.stdout.splitlines()[-1])["independent"] == 6


def test_every_case_of_the_index_has_a_test() -> None:
    with (FIELD / "index.csv").open(encoding="utf-8", newline="") as stream:
        files = [row["file"] for row in csv.DictReader(stream)]
    source = Path(__file__).read_text()
    for file in files:
        if file != "copies/calibrate.csv":  # tests of the calibration
            assert Path(file.rstrip("/")).stem in source, file
