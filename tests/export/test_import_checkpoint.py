"""`python -m export import-checkpoint`: a published file becomes a served model; options give what the file lacks."""

from pathlib import Path

import pytest
import torch

from export.__main__ import main
from export.errors import ExportError
from export.exporter import export_checkpoint
from export.loading import read_tokenizer
from serve.contract import read_contract
from serve.repository import contract_path
from tests.models import TEXT, tiny_actionclip
from training.checkpoints.actionclip_files import to_official_actionclip


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """ActionCLIP's own layout; meanP, so that no tensor tells T, and three heads where 64 a head would give one."""
    path = tmp_path / "k400.pt"
    torch.save(to_official_actionclip(tiny_actionclip("meanP")), path)
    return path


def _import(*arguments: str) -> None:
    main(["import-checkpoint", *arguments])


def test_frames_and_heads_are_reported(official: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    heads = ("--vision-heads", "3", "--text-heads", "2")
    _import(str(official), "--name", "k400", "--repository", str(repository), "--num-frames", "3", *heads)
    contract = read_contract(contract_path(repository, "k400", 1))
    assert (contract.family, contract.sampling.num_segments) == ("actionclip", 3)
    assert contract.graphs["video"].inputs[0].axes[1] == 3
    assert contract.provenance["overrides"] == {"num_frames": 3, "vision_heads": 3, "text_heads": 2}
    assert contract.provenance["source"] == "k400.pt"


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    small = tiny_actionclip("meanP", text={**TEXT, "vocab_size": 600})
    with pytest.raises(ExportError, match="600"):
        export_checkpoint(small, read_tokenizer(small, None), name="small", repository=tmp_path)
    assert not list(tmp_path.glob("*_video/*/contract.json"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--vision-heads", "7", "--text-heads", "2"), "does not divide"),
        (("--vision-heads", "3"), "give text_heads"),
        (("--arch", "ViT-B-32"), "arch"),
        (("--mit-heads", "2"), "mit_heads"),
    ],
)
def test_what_does_not_fit_is_one_line(
    official: Path, tmp_path: Path, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        _import(str(official), "--name", "k400", "--repository", str(tmp_path / "models"), *arguments)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err
    assert not list((tmp_path / "models").glob("*_video/*/contract.json"))
