"""Publish a version in a model repository: build it in a staging folder, then move it into place.

The text folder is moved first, then the video folder, and `contract.json` is written last. `serve` ignores a version
without a contract, so an interrupted publication is not visible. The staging folder is a hidden folder next to the
versions: Triton ignores it, because its name is not a number, and moves are renames within one file system.
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

Signature = Mapping[str, tuple[tuple[TensorContract, ...], tuple[TensorContract, ...]]]  # graph -> (inputs, outputs)

Accelerator = Literal["none", "tensorrt"]  # for Triton's onnxruntime backend

STAGING_PREFIX = ".building-"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StagingDir:
    """A version under construction; `text` and `video` become the version folders of its two components."""

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

    def folder_of(self, component: Literal["text", "video"]) -> Path:
        """Return the staging folder of a component."""
        return self.text if component == "text" else self.video

    def published_path(self, component: str, file: str) -> str:
        """Return the path of a file after publication, relative to the repository."""
        return f"{self.name}_{component}/{self.version}/{file}"


def check_name(name: str) -> None:
    """Check the name of a model.

    Raises:
        ExportInputError: the name is invalid.
    """
    if not MODEL_NAME.fullmatch(name):
        raise ExportInputError(f"the model name must match {MODEL_NAME.pattern}, got {name!r}")


@contextmanager
def staging_dir(repository: Path, name: str) -> Iterator[StagingDir]:
    """Create a staging folder for the next version of `name`; remove it afterwards, also after an error.

    Raises:
        ExportError: the name is invalid, or another export of the same name is running.
    """
    check_name(name)
    model_folder = repository / f"{name}_video"
    model_folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(model_folder, os.O_RDONLY)  # the folder itself is locked, so that no lock file remains
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ExportError(f"another export of {name} into {repository} is running") from error
        for abandoned in model_folder.glob(f"{STAGING_PREFIX}*"):
            shutil.rmtree(abandoned)
        with tempfile.TemporaryDirectory(prefix=STAGING_PREFIX, dir=model_folder) as folder:
            version = next_version(repository, name)
            staging = StagingDir(repository=repository, name=name, version=version, folder=Path(folder))
            staging.text.mkdir()
            staging.video.mkdir()
            yield staging
    finally:
        os.close(lock)
        if not any(model_folder.iterdir()):
            model_folder.rmdir()  # the export of a new name failed


def next_version(repository: Path, name: str) -> int:
    """Return the next version number; numbers of failed publications are not reused."""
    folders = [*(repository / f"{name}_text").glob("*"), *(repository / f"{name}_video").glob("*")]
    return 1 + max((int(path.name) for path in folders if path.name.isdecimal()), default=0)


def read_signature(contract: ModelContract) -> Signature:
    """Return the inputs and outputs of the video and the text graph, which Triton serves."""
    return {name: (contract.graphs[name].inputs, contract.graphs[name].outputs) for name in ("video", "text")}


def check_signature(repository: Path, name: str, signature: Signature) -> None:
    """Check that a new version has the tensors of the existing versions, so that a running server can switch.

    Raises:
        SignatureError: the newest version has different tensors.
    """
    versions = model_versions(repository, name)
    if not versions:
        return
    newest = read_contract(contract_path(repository, name, versions[-1]))
    for graph, (inputs, outputs) in signature.items():
        existing = newest.graphs[graph]
        for kind, actual, expected in (("inputs", inputs, existing.inputs), ("outputs", outputs, existing.outputs)):
            if actual != expected:
                raise SignatureError(
                    f"{kind} of the {graph} graph must be those of {name}@{versions[-1]}, "
                    f"{_describe(expected)}, got {_describe(actual)}; "
                    "export the model under a new --name"
                )


def check_accelerator(repository: Path, name: str, accelerator: Accelerator) -> None:
    """Check that an existing `config.pbtxt`, which the operator may have edited, has the accelerator.

    Raises:
        ExportInputError: the existing file does not have the accelerator.
    """
    for path in repository.glob(f"{name}_*/config.pbtxt") if accelerator != "none" else ():
        if path.parent.name in (f"{name}_text", f"{name}_video") and f'name: "{accelerator}"' not in path.read_text():
            raise ExportInputError(
                f"{path} exists and does not have the {accelerator} accelerator; delete the file to generate it again"
            )


def publish(staging: StagingDir, contract: ModelContract, *, accelerator: Accelerator = "none") -> Path:
    """Move a version from the staging folder into the repository; return the path of its contract.

    Raises:
        SignatureError: see `check_signature`.
    """
    check_signature(staging.repository, staging.name, read_signature(contract))
    components = {"text": (staging.text, MAX_TEXT_BATCH), "video": (staging.video, MAX_VIDEO_BATCH)}
    for component, (built, max_batch_size) in components.items():
        model_folder = staging.repository / f"{staging.name}_{component}"
        model_folder.mkdir(exist_ok=True)
        config = model_folder / "config.pbtxt"
        if not config.exists():  # an older version has the same signature, and an operator may have edited the file
            text = _config_text(
                model_folder.name, contract, component=component, max_batch_size=max_batch_size, accelerator=accelerator
            )
            write_atomically(config, text)
        _sync_tree(built)
        built.rename(model_folder / str(staging.version))
        sync_to_disk(model_folder)
    contract_file = contract_path(staging.repository, staging.name, staging.version)
    document = json.dumps(contract_document(contract), indent=1, ensure_ascii=False) + "\n"
    write_atomically(contract_file, document)
    logger.info("published %s@%s", contract.name, contract.version)
    return contract_file


def _config_text(
    name: str, contract: ModelContract, *, component: str, max_batch_size: int, accelerator: Accelerator
) -> str:
    graph = contract.graphs[component]
    if accelerator == "tensorrt":
        return accelerator_config(name, graph, contract=contract, max_batch_size=max_batch_size)
    return config_text(graph_config(name, graph, max_batch_size=max_batch_size))


def _sync_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        sync_to_disk(path)


def _describe(tensors: tuple[TensorContract, ...]) -> str:
    return ", ".join(f"{item.name} {item.dtype} {list(item.axes)}" for item in tensors)
