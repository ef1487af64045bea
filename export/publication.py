"""Publish a version in a model repository: build it in a staging folder, then move it into place.

Order: text folder, video folder, `contract.json`. `serve` ignores a version without a contract, so a crash at any point
publishes nothing. The staging folder is hidden and beside the versions: Triton ignores it (its name is not a number),
and it is on the same file system, so that every move is a rename.
"""

import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from export.errors import ExportError, ExportInputError, SignatureError
from export.triton_config import MAX_TEXT_BATCH, MAX_VIDEO_BATCH, config_text, graph_config
from export.trt.serving import accelerator_config
from serve.contract import MODEL_NAME, ModelContract, TensorContract, contract_document, read_contract
from serve.files import sync_to_disk, write_atomically
from serve.repository import contract_path, model_versions

Signature = Mapping[str, tuple[tuple[TensorContract, ...], tuple[TensorContract, ...]]]  # graph -> inputs, outputs

Accelerator = Literal["none", "tensorrt"]  # of Triton's onnxruntime backend

STAGING = ".building-"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StagingDir:
    """A version under construction; `text` and `video` become its two version folders."""

    repository: Path
    name: str
    version: int
    folder: Path

    @property
    def text(self) -> Path:
        """Folder that becomes `NAME_text/VERSION`."""
        return self.folder / "text"

    @property
    def video(self) -> Path:
        """Folder that becomes `NAME_video/VERSION`."""
        return self.folder / "video"

    def folder_of(self, part: Literal["text", "video"]) -> Path:
        """Return the version folder of a part."""
        return self.text if part == "text" else self.video

    def published_path(self, part: str, file: str) -> str:
        """Return the path of a file once published, relative to the repository folder."""
        return f"{self.name}_{part}/{self.version}/{file}"


def check_name(name: str) -> None:
    """Raises: ExportInputError: a model cannot have this name."""
    if not MODEL_NAME.fullmatch(name):
        raise ExportInputError(f"model name {name!r}: allowed is {MODEL_NAME.pattern}")


@contextmanager
def staging_dir(repository: Path, name: str) -> Iterator[StagingDir]:
    """Create a folder to build the next version of `name` in; remove it afterwards, also after an error.

    Raises:
        ExportError: the name cannot be used, or another export of the same name is running.
    """
    check_name(name)
    home = repository / f"{name}_video"
    home.mkdir(parents=True, exist_ok=True)
    lock = os.open(home, os.O_RDONLY)  # locks the folder itself, so that no lock file remains
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ExportError(f"another export of {name} into {repository} is running") from error
        for abandoned in home.glob(f"{STAGING}*"):
            shutil.rmtree(abandoned)
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=home) as folder:
            version = next_version(repository, name)
            staging = StagingDir(repository=repository, name=name, version=version, folder=Path(folder))
            staging.text.mkdir()
            staging.video.mkdir()
            yield staging
    finally:
        os.close(lock)
        if not any(home.iterdir()):
            home.rmdir()  # a new name whose export failed


def next_version(repository: Path, name: str) -> int:
    """Return the next version number; numbers of failed publications are not reused."""
    folders = [*(repository / f"{name}_text").glob("*"), *(repository / f"{name}_video").glob("*")]
    return 1 + max((int(path.name) for path in folders if path.name.isdecimal()), default=0)


def signature_of(contract: ModelContract) -> Signature:
    """Return the inputs and outputs of the two graphs that a request needs."""
    return {name: (contract.graphs[name].inputs, contract.graphs[name].outputs) for name in ("video", "text")}


def check_signature(repository: Path, name: str, signature: Signature) -> None:
    """Require that all versions of a name have the same input and output tensors, so that a running server can switch.

    Raises:
        SignatureError: the newest version has other tensors.
    """
    versions = model_versions(repository, name)
    if not versions:
        return
    other = read_contract(contract_path(repository, name, versions[-1]))
    for graph, (inputs, outputs) in signature.items():
        theirs = other.graphs[graph]
        for kind, found, expected in (("inputs", inputs, theirs.inputs), ("outputs", outputs, theirs.outputs)):
            if found != expected:
                raise SignatureError(
                    f"{name}@{versions[-1]} has the {graph} graph's {kind} {_shown(expected)}, "
                    f"this model has {_shown(found)}: "
                    "versions of a name share them, so export it under a new --name"
                )


def check_accelerator(repository: Path, name: str, accelerator: Accelerator) -> None:
    """Refuse an accelerator that an existing `config.pbtxt`, which belongs to the operator, does not have.

    Raises:
        ExportError: the existing file lacks the accelerator.
    """
    for path in repository.glob(f"{name}_*/config.pbtxt") if accelerator != "none" else ():
        if path.parent.name in (f"{name}_text", f"{name}_video") and f'name: "{accelerator}"' not in path.read_text():
            raise ExportInputError(
                f"{path} exists and has no {accelerator} accelerator; remove the file to have it written again"
            )


def publish(staging: StagingDir, contract: ModelContract, *, accelerator: Accelerator = "none") -> Path:
    """Move a built version into the repository; return the path of its contract.

    Raises:
        SignatureError: see `check_signature`.
    """
    check_signature(staging.repository, staging.name, signature_of(contract))
    parts = {"text": (staging.text, MAX_TEXT_BATCH), "video": (staging.video, MAX_VIDEO_BATCH)}
    for part, (built, max_batch_size) in parts.items():
        home = staging.repository / f"{staging.name}_{part}"
        home.mkdir(exist_ok=True)
        config = home / "config.pbtxt"
        if not config.exists():  # that of an older version has the same signature, and an operator may have tuned it
            text = _config(home.name, contract, part=part, max_batch_size=max_batch_size, accelerator=accelerator)
            write_atomically(config, text)
        _sync_tree(built)
        built.rename(home / str(staging.version))
        sync_to_disk(home)
    final = contract_path(staging.repository, staging.name, staging.version)
    document = json.dumps(contract_document(contract), indent=1, ensure_ascii=False) + "\n"
    write_atomically(final, document)
    logger.info("published %s@%s", contract.name, contract.version)
    return final


def _config(name: str, contract: ModelContract, *, part: str, max_batch_size: int, accelerator: Accelerator) -> str:
    graph = contract.graphs[part]
    if accelerator == "tensorrt":
        return accelerator_config(name, graph, contract=contract, max_batch_size=max_batch_size)
    return config_text(graph_config(name, graph, max_batch_size=max_batch_size))


def _sync_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        sync_to_disk(path)


def _shown(tensors: tuple[TensorContract, ...]) -> str:
    return ", ".join(f"{item.name} {item.dtype} {list(item.axes)}" for item in tensors)
