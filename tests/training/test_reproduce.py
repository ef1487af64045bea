"""The commands of docs/reproduce.md, run as they stand on small copies of the published layouts."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.snippets import snippets_of
from tests.training.test_configurations import CONFIGS, in_small, recipe
from training.__main__ import app
from training.config import TrainConfig, as_yaml

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reproduce.md"
SMALL = ("xclip/k400_vit-b-16_8.yaml", "actionclip/k400_vit-b-16_32.yaml", "actionclip/ucf101_vit-b-16_32.yaml")
HEADER = "label,youtube_id,time_start,time_end,split\n"


@pytest.fixture
def clone(class_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recipes in small, Kinetics-400 and UCF101 of three classes."""
    shutil.copytree(CONFIGS, tmp_path / "training" / "configs")
    for name in SMALL:
        (tmp_path / "training" / "configs" / name).write_text(as_yaml(small(name, class_folders, tmp_path)))
    tables: dict[str, str] = {"train": HEADER, "val": HEADER}
    lists: dict[str, str] = {"train": "", "test": ""}
    classes = ""
    for number, folder in enumerate(sorted(class_folders.iterdir()), start=1):
        camel = folder.name.title().replace(" ", "")
        classes += f"{number} {camel}\n"
        for i, clip in enumerate(sorted(folder.iterdir())):
            part, test = ("train", "train") if i < 2 else ("val", "test")
            video = f"abc{number}_-DEF{i:03d}"
            tables[part] += f"{folder.name},{video},{i},{i + 10},{'validate' if part == 'val' else part}\n"
            _copy(clip, tmp_path / "k400" / part / f"{video}_{i:06d}_{i + 10:06d}.mp4")
            file = f"{camel}/v_{camel}_g{8 if test == 'train' else 1:02d}_c{i + 1:02d}.avi"
            lists[test] += f"{file} {number}\n" if test == "train" else f"{file}\n"
            _copy(clip, tmp_path / "ucf101" / "UCF-101" / file)
    (tmp_path / "k400" / "annotations").mkdir()
    for part, text in tables.items():
        (tmp_path / "k400" / "annotations" / f"{part}.csv").write_text(text)
    (tmp_path / "ucf101" / "ucfTrainTestlist").mkdir()
    for part, text in lists.items():
        (tmp_path / "ucf101" / "ucfTrainTestlist" / f"{part}list01.txt").write_text(text)
    (tmp_path / "ucf101" / "ucfTrainTestlist" / "classInd.txt").write_text(classes)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small(name: str, class_folders: Path, tmp_path: Path) -> TrainConfig:
    """A recipe in small that evaluates and saves at every step."""
    config = in_small(recipe(name), class_folders, tmp_path)
    return replace(config, run=replace(config.run, evaluate_every=1, save_every=1))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def test_every_command_of_the_page_works_on_a_miniature(clone: Path) -> None:
    blocks = [snippet for snippet in snippets_of(PAGE, "docs/reproduce.md") if snippet.language == "sh"]
    commands = [line for block in blocks for line in block.text.replace("\\\n", " ").splitlines() if line.strip()]
    assert len(commands) == 8
    for command in commands:
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "training"], command
        small = ["--image-size", "32", "--num-frames", "2", "--workers", "1"] if words[3] == "check" else []
        small += ["--workers", "0"] if words[3] == "evaluate" and "--compare" not in words else []
        result = CliRunner().invoke(app, [*words[3:], *small], catch_exceptions=False)
        assert result.exit_code == 0, f"{command}\n{result.output}"
    xclip = json.loads((clone / "xclip_k400.json").read_text())
    (split,) = xclip["splits"]
    assert (xclip["protocol"]["num_clips"], xclip["protocol"]["num_crops"]) == (4, 3)
    assert split["class_names"] == ["closing arms", "opening arms", "waving"]
    assert {Path(video["path"]).parts[-2] for video in split["videos"]} == {"val"}
    assert len(split["videos"]) == 6
    (split,) = json.loads((clone / "actionclip_ucf101.json").read_text())["splits"]
    assert split["class_names"] == ["ClosingArms", "OpeningArms", "Waving"]
    assert all("_g01_" in video["path"] for video in split["videos"]) and len(split["videos"]) == 6
