"""A version exists whole or not at all; versions of a name share a signature; files tell nothing of the build."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import export.publication as publication
from export.errors import ExportError, SignatureError
from export.exporter import ExportResult, export_checkpoint
from export.loading import read_tokenizer
from export.publication import StagingDir, publish, staging_dir
from export.verification import verify_version
from serve import files
from serve.contract import ModelContract, contract_document, read_contract
from serve.errors import ContractError
from serve.repository import contract_path, model_names, model_versions
from tests.export.conftest import Exported as Repositories
from tests.models import VISION, tiny_actionclip
from training.checkpoints.native_format import Checkpoint


def export_tiny(repository: Path, checkpoint: Checkpoint | None = None) -> ExportResult:
    made = checkpoint or tiny_actionclip("Transf")
    return export_checkpoint(made, read_tokenizer(made, None), name="tiny", repository=repository)


@pytest.fixture
def repository(copied: Repositories) -> Path:
    """A repository with tiny@1 that a test may damage."""
    return copied("actionclip")


def leftovers(repository: Path) -> list[str]:
    return [path.name for path in repository.rglob(f"{publication.STAGING_PREFIX}*")]


@contextmanager
def site_with_copy(repository: Path) -> Iterator[tuple[StagingDir, ModelContract]]:
    """The next version of tiny under construction, with tiny@1's files, and its contract."""
    first = read_contract(contract_path(repository, "tiny", 1))
    with staging_dir(repository, "tiny") as staging:
        for part, folder in (("text", staging.text), ("video", staging.video)):
            shutil.copytree(repository / f"tiny_{part}" / "1", folder, dirs_exist_ok=True)
        (staging.video / "contract.json").unlink()
        moved = json.dumps(contract_document(first)).replace("tiny_text/1/", f"tiny_text/{staging.version}/")
        document = json.loads(moved.replace("tiny_video/1/", f"tiny_video/{staging.version}/"))
        (staging.folder / "moved.json").write_text(json.dumps({**document, "version": staging.version}))
        yield staging, read_contract(staging.folder / "moved.json")


def stop_at(step: int, stop: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Let `stop` happen before the step-th change of the disk: each folder or file made, renamed or synchronised."""
    left = iter(range(step))

    def before(original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if next(left, None) is None:
                stop()
            return original(*arguments, **options)

        return call

    for name in ("rename", "replace", "mkdir", "write_bytes"):
        patch.setattr(Path, name, before(getattr(Path, name)))
    for module in (publication, files):
        patch.setattr(module, "sync_to_disk", before(files.sync_to_disk))


def publish_copy(repository: Path, stop: Callable[[], None], *, step: int) -> None:
    with site_with_copy(repository) as (staging, contract), pytest.MonkeyPatch.context() as patch:
        stop_at(step, stop, patch)
        publish(staging, contract)


def fail() -> None:
    raise OSError("the disk went away")


def test_an_error_at_any_step_leaves_no_version(repository: Path) -> None:
    (repository / "tiny_text" / "config.pbtxt").unlink()  # so that writing it is one of the steps
    for step in range(100):
        try:
            publish_copy(repository, fail, step=step)
        except OSError:
            # the very last step comes after the rename that makes the version: synchronising its folder
            if model_versions(repository, "tiny") == [1]:
                assert leftovers(repository) == []
                continue
        break
    assert step > 15, "every file is synchronised, every folder renamed"
    (made,) = set(model_versions(repository, "tiny")) - {1}
    numbers = [int(path.name) for path in repository.glob("tiny_*/*") if path.name.isdecimal()]
    assert made == max(numbers), "the number of a failed publication is not used again"
    verify_version(repository, "tiny", version=made)


def test_a_killed_process_leaves_no_version_and_the_next_export_cleans_up(repository: Path) -> None:
    for step in (0, 4, 9, 14, 17):
        child = os.fork()
        if child == 0:
            try:
                publish_copy(repository, lambda: os._exit(9), step=step)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, "it was killed before the end"
        assert model_versions(repository, "tiny") == [1]
        assert leftovers(repository) != []
    publish_copy(repository, fail, step=1000)
    assert leftovers(repository) == []
    assert len(model_versions(repository, "tiny")) == 2
    verify_version(repository, "tiny", version=None)


def test_a_failed_export_of_a_new_name_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ExportError("parity does not hold")

    monkeypatch.setattr("export.exporter.require_parity", fail)
    with pytest.raises(ExportError, match="parity"):
        export_tiny(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_signature_needs_another_name(repository: Path) -> None:
    with pytest.raises(SignatureError, match=r"frames uint8 .* under a new --name"):
        export_tiny(repository, tiny_actionclip("Transf", num_frames=3))
    larger = dataclasses.replace(tiny_actionclip("Transf", vision={**VISION, "image_size": 48}))
    with pytest.raises(SignatureError):
        export_tiny(repository, larger)
    assert model_versions(repository, "tiny") == [1]
    assert model_names(repository) == ["tiny"]


def test_two_exports_of_one_name_do_not_meet(repository: Path) -> None:
    with (
        staging_dir(repository, "tiny"),
        pytest.raises(ExportError, match="another export"),
        staging_dir(repository, "tiny"),
    ):
        pass


@pytest.mark.parametrize("name", ["", "../up", "a/b", "x" * 80])
def test_names_are_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match="model name"), staging_dir(tmp_path, name):
        pass


def test_a_contract_under_another_name_is_refused(repository: Path) -> None:
    shutil.copytree(repository / "tiny_video", repository / "other_video")
    assert read_contract(contract_path(repository, "other", 1)).name == "tiny"
    with pytest.raises(ContractError):
        verify_version(repository, "other", version=None)
