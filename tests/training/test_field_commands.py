"""Lists and folders of the field through every command: each shares the readers, so each comes to the same outcome."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from export.__main__ import app as export_app
from serve.cli.main import app as serve_app
from tests.models import tiny_checkpoint
from tests.shared_data import SHARED, needs_shared
from tests.training.test_trainer import DEMO, SMALL
from training.__main__ import app
from training.checkpoints.native_format import save_checkpoint

FIELD = SHARED / "data" / "field_training"
CLASSES = ("--classes", str(FIELD / "numbers" / "classes.csv"))
pytestmark = needs_shared

Found = tuple[int, str, dict[str, Any]]  # exit status, all that was said, the last line's document
Command = Callable[..., Found]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.pt"
    save_checkpoint(path, tiny_checkpoint("clip"))
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def command(checkpoint: Path, cache: Path, tmp_path: Path) -> Command:
    """Runs a command on a list of the field with the options of lists."""

    def run(name: str, listing: str, *options: object) -> Found:
        path, words = str(FIELD / listing), [str(option) for option in options]
        kept = ["--cache", str(cache), "--workers", "1"]
        lines = {
            "check": [
                "check", path, *words, "--image-size", "32", "--num-frames", "4", "--workers", "1", "--samples", "0",
                "--sheet", str(tmp_path / "sheet.png"),
            ],
            "evaluate": ["evaluate", str(checkpoint), path, *words, "--workers", "0"],
            "few-shot": [
                "few-shot", str(checkpoint), path, *words, "--shots", "1", "--seeds", "0", *kept, "--out",
                str(tmp_path / "few"),
            ],
            "features": ["features", str(checkpoint), path, *words, *kept, "--out", str(tmp_path / "features.npz")],
            "prepare": ["prepare", path, str(tmp_path / "set"), *words, "--lists-only", "--val", "0.3"],
            "train": ["train", str(DEMO), *_settings(path, words, tmp_path / "run")],
        }  # fmt: skip
        result = CliRunner().invoke(app, lines[name])
        return _found(result)

    return run


def _settings(path: str, options: list[str], out: Path) -> list[str]:
    """The options of lists as settings of a run of one step."""
    named = dict(zip(options[::2], options[1::2], strict=True))
    settings = [*SMALL, f"run.out={out}", "run.steps=1", "run.evaluate_every=1", f"data.train={path}"]
    settings += [f"data.source={named.get('--source') or _kind(path)}", "data.templates=['{}']"]
    for option, key in {"--classes": "classes", "--root": "root", "--first-label": "first_label"}.items():
        settings += [f"data.{key}={named[option]}"] if option in named else []
    return [word for setting in settings for word in ("--set", setting)]


def _kind(path: str) -> str:
    if Path(path).is_dir():
        return "folder"
    return "csv" if path.endswith(".csv") else "frames" if "/frames/" in path else "videos"


def _found(result: Any) -> Found:
    said = " ".join(f"{result.output} {result.exception or ''}".split())
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    return result.exit_code, said, json.loads(lines[-1]) if lines else {}


COMMANDS = ("check", "evaluate", "few-shot", "features", "prepare", "train")
ONE_BASED = r"no label is 0 \('Archery'\)"
REFUSED: dict[str, tuple[str, tuple[object, ...], str]] = {
    "a label with an unquoted comma": ("commas/list.csv", (), r"list\.csv, line 3: .*something and something"),
    "a class name with an unquoted comma": (
        "commas/list.txt", ("--classes", FIELD / "commas" / "classes.csv"), r"classes\.csv, line 3: ",
    ),
    "a class without a name": (
        "commas/list.txt", ("--classes", FIELD / "commas" / "classes_short_row.csv"), r"classes_short_row\.csv, line 3",
    ),
    "numbers alone": ("numbers/label_only.csv", (), "cannot be used as prompts"),
    "labels from one": ("numbers/one_based.txt", CLASSES, ONE_BASED),
    "UTF-16, labels from one": ("numbers/utf16.txt", CLASSES, ONE_BASED),
    "a split file of HMDB51": ("numbers/hmdb_archery_test_split1.txt", CLASSES, "HMDB51"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_understood_is_refused_by_every_command(case: str, name: str, command: Command) -> None:
    listing, options, words = REFUSED[case]
    status, said, _ = command(name, listing, *options)
    assert status != 0
    assert re.search(words, said), said


PARTS, SPARE, FRAMES = (
    "has the splits {}; choose one with --split",
    "every class has too few independent videos",
    "nothing to prepare",
)
# case -> list, options, videos, independent ones, and what a command says that cannot use it
READ: dict[str, tuple[str, tuple[object, ...], int, int, dict[str, str]]] = {
    "parts and annotations": (
        "layout_train_val_annotations", (), 4, 4,
        dict.fromkeys(("evaluate", "few-shot", "features"), PARTS.format("train, val")),
    ),
    "a column called subset": (
        "split/subset.csv", (), 3, 3, dict.fromkeys(("evaluate", "few-shot", "features"), PARTS.format("train, test")),
    ),
    "numbers and names": ("numbers/label_and_name.csv", (), 2, 2, {"few-shot": SPARE}),
    "labels from one, said so": (
        "numbers/one_based.txt", (*CLASSES, "--first-label", 1), 2, 2, {"few-shot": SPARE},
    ),
    "UTF-16, said so": ("numbers/utf16.txt", (*CLASSES, "--first-label", 1), 2, 2, {"few-shot": SPARE}),
    "a split file of HMDB51, said so": (
        "numbers/hmdb_archery_test_split1.txt", ("--source", "hmdb51", "--root", FIELD / "clips"), 2, 2,
        dict.fromkeys(("evaluate", "few-shot", "features"), PARTS.format("train, test")),
    ),
    "tabs": ("frames/tabs.txt", CLASSES, 1, 1, {"few-shot": SPARE, "prepare": FRAMES}),
    "two spaces": ("frames/two_spaces.txt", CLASSES, 1, 1, {"few-shot": SPARE, "prepare": FRAMES}),
    "pictures from 0": ("frames/zero_based.txt", CLASSES, 1, 1, {"few-shot": SPARE, "prepare": FRAMES}),
    "a suffix that is not known": ("suffix", (), 2, 2, {"few-shot": SPARE}),
    "groups": ("groups", (), 18, 6, {}),
    "copies": ("copies/evaluate.txt", CLASSES, 80, 2, {"few-shot": SPARE}),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_what_is_understood_is_read_by_every_command(case: str, command: Command) -> None:
    listing, options, count, independent, unusable = READ[case]
    for name in COMMANDS:
        status, said, document = command(name, listing, *options)
        if name in unusable:
            assert (status, unusable[name] in said) == (1, True), (name, said)
            continue
        assert status == 0, (name, said)
        if name == "check":
            assert (document["is_fit"], document["entries"]) == (True, count)
        if name == "evaluate":
            (document,) = document["splits"]
            assert (document["videos"], document["unreadable"]) == (count, 0)
        if name in ("few-shot", "features"):
            assert (document["videos"], document["unreadable"]) == (count, 0)
        if name == "prepare":
            assert document["train"] + document["val"] + document.get("test", 0) == count
        if name == "train":
            assert document["bad_training_videos"] == 0
        else:
            copies = count - independent if case == "copies" else 0
            assert (document["independent"], document["copies"]) == (independent, copies), name


def test_frames_that_are_not_all_counted_are_an_error_everywhere(command: Command) -> None:
    for name in ("check", "evaluate", "few-shot", "features", "train"):
        status, said, _ = command(name, "frames/counts_too_few.txt", *CLASSES)
        assert status != 0, name
        assert "the list says 6 frames, the folder contains 24" in said, (name, said)


@pytest.mark.parametrize(
    ("listing", "part", "videos"), [("split/subset.csv", "test", 2), ("layout_train_val_annotations", "val", 2)]
)
def test_a_part_is_chosen_by_every_command_that_has_the_option(
    listing: str, part: str, videos: int, command: Command
) -> None:
    for name in ("evaluate", "features"):
        status, said, document = command(name, listing, "--split", part)
        assert status == 0, said
        found = document["splits"][0] if name == "evaluate" else document
        assert found["videos"] == videos
    for name in ("evaluate", "few-shot", "features"):
        status, said, _ = command(name, "numbers/label_and_name.csv", "--split", "test")
        assert (status, "has no splits" in said) == (1, True), said


def test_classes_of_training_in_their_published_form_and_vowel_signs(command: Command) -> None:
    folder = FIELD / "trainclasses"
    status, said, _ = command("evaluate", "groups", "--train-classes", folder / "classInd.txt")
    assert (status, "2 of 2 classes" in said) == (1, True), said
    hindi = ("--classes", folder / "hindi_eval.csv", "--train-classes", folder / "hindi_train.csv")
    status, said, document = command("evaluate", "trainclasses/list.txt", *hindi)
    assert (status, document["splits"][0]["classes"]) == (0, 2), said


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        ("commas/list.csv", r"list\.csv, line 3: .*something and something"),
        ("split/subset.csv", "has the splits train, test|does not use parts"),
        ("copies/calibrate.csv", "1 of them independent, 24 are copies|label"),
    ],
)
def test_promote_and_calibrate_read_by_the_same_rules(listing: str, words: str) -> None:
    """Both refuse the list before any server is asked."""
    promote = ["promote", "demo@1", "--against", "demo@1", "--clips", str(FIELD / listing), "--dry-run"]
    found = _found(CliRunner().invoke(export_app, promote))
    assert found[0] != 0 and re.search(words, found[1]), found[1]
    if listing != "copies/calibrate.csv":  # that one is for a server, in the tests of the calibration
        found = _found(CliRunner().invoke(serve_app, ["vocab", "calibrate", "any", str(FIELD / listing)]))
        assert found[0] != 0 and re.search(words, found[1]), found[1]
