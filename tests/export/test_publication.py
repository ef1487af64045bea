"""A version exists whole or not at all; versions of a name share a signature; files tell nothing of the build."""

import dataclasses
import shutil
from pathlib import Path

import pytest

import export.publication as publication
from export.assembly import Exported, export_checkpoint
from export.errors import ExportError, SignatureError
from export.publication import building
from export.sources import tokenizer_bytes
from export.verification import verify_version
from serve.contract import contract_path, names_in, read_contract, versions_of
from serve.errors import ContractError
from tests.export.conftest import Exported as Repositories
from tests.models import VISION, tiny_actionclip
from training.checkpoints.own import Checkpoint


def export_tiny(repository: Path, checkpoint: Checkpoint | None = None) -> Exported:
    made = checkpoint or tiny_actionclip("Transf")
    return export_checkpoint(made, tokenizer_bytes(made, None), name="tiny", repository=repository)


@pytest.fixture
def repository(copied: Repositories) -> Path:
    """A repository with tiny@1 that a test may damage."""
    return copied("actionclip")


def leftovers(repository: Path) -> list[str]:
    return [path.name for path in repository.rglob(f"{publication.BUILDING}*")]


def test_a_crash_before_the_last_rename_leaves_no_version(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = publication._write_durably

    def fail_at_contract(path: Path, text: str, *, aside: Path) -> None:
        if path.name == "contract.json":
            raise OSError("the disk went away")
        write(path, text, aside=aside)

    monkeypatch.setattr(publication, "_write_durably", fail_at_contract)
    with pytest.raises(OSError, match="went away"):
        export_tiny(repository)
    assert versions_of(repository, "tiny") == [1]
    assert leftovers(repository) == []
    monkeypatch.undo()
    assert export_tiny(repository).contract.version == 3, "the number of the failed one is not used again"
    assert versions_of(repository, "tiny") == [1, 3]
    verify_version(repository, "tiny", version=3)


def test_a_failed_export_of_a_new_name_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ExportError("parity does not hold")

    monkeypatch.setattr("export.assembly.require_parity", fail)
    with pytest.raises(ExportError, match="parity"):
        export_tiny(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_signature_needs_another_name(repository: Path) -> None:
    with pytest.raises(SignatureError, match=r"frames uint8 .* under a new --name"):
        export_tiny(repository, tiny_actionclip("Transf", num_frames=3))
    larger = dataclasses.replace(tiny_actionclip("Transf", vision={**VISION, "image_size": 48}))
    with pytest.raises(SignatureError):
        export_tiny(repository, larger)
    assert versions_of(repository, "tiny") == [1]
    assert names_in(repository) == ["tiny"]


def test_two_exports_of_one_name_do_not_meet(repository: Path) -> None:
    with building(repository, "tiny"), pytest.raises(ExportError, match="another export"), building(repository, "tiny"):
        pass


@pytest.mark.parametrize("name", ["", "../up", "a/b", "x" * 80])
def test_names_are_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match="model name"), building(tmp_path, name):
        pass


def test_a_contract_under_another_name_is_refused(repository: Path) -> None:
    shutil.copytree(repository / "tiny_video", repository / "other_video")
    assert read_contract(contract_path(repository, "other", 1)).name == "tiny"
    with pytest.raises(ContractError):
        verify_version(repository, "other", version=None)
