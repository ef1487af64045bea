"""A contract is honoured whole or refused by field; files that changed are found before anything is served."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.contract import contract_document, read_contract
from serve.engines.selection import start_engine
from serve.errors import ContractError, UnknownModel
from serve.repository import contract_path, find_contract, model_names, model_versions, verify_files
from serve.settings import ServeSettings

REPOSITORY = Path(__file__).resolve().parents[2] / "model_repository"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the bundled model that a test may damage."""
    for part in ("demo_text", "demo_video"):
        shutil.copytree(REPOSITORY / part, tmp_path / part)
    return tmp_path


def document(repository: Path) -> dict[str, Any]:
    return json.loads(contract_path(repository, "demo", 1).read_text())


def rewrite(repository: Path, changed: dict[str, Any]) -> None:
    contract_path(repository, "demo", 1).write_text(json.dumps(changed))


def without_later_fields(found: Any, written: Any) -> Any:
    """The part of a document whose fields an older document has."""
    if isinstance(found, dict) and isinstance(written, dict):
        return {name: without_later_fields(found[name], value) for name, value in written.items()}
    return found


def test_a_contract_of_an_older_release_keeps_its_values_and_gains_defaults(tmp_path: Path) -> None:
    contract = read_contract(contract_path(REPOSITORY, "demo", 1))
    written = json.loads(json.dumps(contract_document(contract)))
    assert without_later_fields(written, document(REPOSITORY)) == document(REPOSITORY)
    (tmp_path / "contract.json").write_text(json.dumps(written))
    assert read_contract(tmp_path / "contract.json") == contract, "the added fields hold their defaults"
    verify_files(contract, REPOSITORY)
    assert {"demo", "starter"} <= set(model_names(REPOSITORY))
    assert model_versions(REPOSITORY, "demo") == [1]
    total = sum(
        path.stat().st_size
        for part in ("demo_text", "demo_video")
        for path in (REPOSITORY / part).rglob("*")
        if path.is_file()
    )
    assert total < 12 * 2**20


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown field": (lambda d: d.update(nosuch=1), "unknown field nosuch"),
    "missing field": (lambda d: d.pop("sampling"), "sampling"),
    "unknown rule": (lambda d: d["sampling"].update(rule="random"), "sampling.rule"),
    "wrong type": (lambda d: d["preprocess"].update(image_size="80"), "preprocess.image_size"),
    "two numbers": (lambda d: d["preprocess"].update(mean=[0.5, 0.5]), "preprocess.mean"),
    "no place": (lambda d: d["text"].update(templates=["a video"]), "text.templates"),
    "scale": (lambda d: d["scoring"].update(logit_scale=-1.0), "scoring.logit_scale"),
    "format": (lambda d: d.update(format=99), "format"),
    "no text graph": (lambda d: d["graphs"].pop("text"), "graphs"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_contract_that_cannot_be_honoured_names_the_field(repository: Path, name: str) -> None:
    change, words = CHANGES[name]
    changed = copy.deepcopy(document(repository))
    change(changed)
    rewrite(repository, changed)
    with pytest.raises(ContractError, match=words):
        read_contract(contract_path(repository, "demo", 1))


@pytest.mark.parametrize("labels", [["it’s", "it's"], ["run", "\u200b"], ["a  b", "a b"]])
def test_default_labels_are_checked_as_those_of_any_vocabulary(repository: Path, labels: list[str]) -> None:
    changed = copy.deepcopy(document(repository))
    changed["default_labels"] = labels
    rewrite(repository, changed)
    with pytest.raises(ContractError, match="default_labels"):
        find_contract(repository, "demo")


@pytest.mark.parametrize("file", ["demo_video/1/model.onnx.data", "demo_text/1/tokenizer.json"])
def test_a_flipped_bit_is_found(repository: Path, file: str) -> None:
    content = bytearray((repository / file).read_bytes())
    content[len(content) // 2] ^= 1
    (repository / file).write_bytes(content)
    with pytest.raises(ContractError, match="sha256"):
        verify_files(read_contract(contract_path(repository, "demo", 1)), repository)


async def test_numbers_that_are_not_the_model_s_stop_the_start(repository: Path, tmp_path: Path) -> None:
    """Clips of another brightness with a corrected hash: every hash holds, the parity check does not."""
    import hashlib

    path = repository / "demo_video" / "1" / "parity.npz"
    with np.load(path) as stored:
        golden = {name: stored[name] for name in stored.files}
    golden["frames"] = golden["frames"] // 2
    np.savez_compressed(path, **golden)
    changed = document(repository)
    changed["parity_file"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    rewrite(repository, changed)
    settings = ServeSettings(repository=repository, cache_dir=tmp_path / "cache", engine="onnxruntime-cpu")
    with pytest.raises(ContractError, match="parity"):
        await start_engine(find_contract(repository, "demo"), repository, settings)


def test_a_version_without_contract_does_not_exist(repository: Path) -> None:
    shutil.copytree(repository / "demo_video" / "1", repository / "demo_video" / "2")
    (repository / "demo_video" / "2" / "contract.json").unlink()
    assert model_versions(repository, "demo") == [1]
    with pytest.raises(UnknownModel, match="demo@2"):
        find_contract(repository, "demo@2")


@pytest.mark.parametrize(
    ("card", "notice"),
    [
        ("", None),
        (" \n\n ", None),
        ("Knows\nfigures only.\n\nMore.", "Knows figures only."),
        ("One line.", "One line."),
    ],
)
def test_the_notice_is_the_first_paragraph_of_the_card(repository: Path, card: str, notice: str | None) -> None:
    rewrite(repository, {**document(repository), "card": card})
    assert read_contract(contract_path(repository, "demo", 1)).notice == notice
