"""A version is refused once anything in it changed: by `verify`, and by a server before it says ready."""

import asyncio
import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.__main__ import main
from export.golden import FRAME_SIZES, golden_frames
from export.publication import STAGING_PREFIX
from serve.errors import ContractError
from serve.files import file_sha256
from serve.models.runtime import load_runtime
from serve.repository import contract_path
from serve.settings import ServeSettings
from tests.export.conftest import NAME, Exported, make_contract
from tests.models import FAMILIES

FILES = [
    ("actionclip", "video/1/model.onnx"),
    ("actionclip", "video/1/model.onnx.data"),
    ("actionclip", "video/1/frames.onnx"),
    ("actionclip", "video/1/fusion.onnx"),
    ("actionclip", "video/1/parity.npz"),
    ("actionclip", "text/1/model.onnx"),
    ("actionclip", "text/1/model.onnx.data"),
    ("actionclip", "text/1/tokenizer.json"),
    ("xclip", "video/1/head.onnx"),
]


def verified(repository: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `python -m export verify` prints on its way out with 1; empty where it holds."""
    try:
        main(["verify", NAME, "--repository", str(repository)])
    except SystemExit as stop:
        assert stop.code == 1
        return capsys.readouterr().err
    return ""


def start(repository: Path, *, engine: str = "auto") -> str:
    """Load as a server does; the reason where it does not come up."""

    async def load() -> None:
        settings = ServeSettings(repository=repository, model=NAME, engine=engine, cache_dir=repository / "cache")
        runtime = await load_runtime(settings, NAME)
        await runtime.close()

    try:
        asyncio.run(load())
    except ContractError as error:
        return error.message
    return ""


@pytest.mark.parametrize(("family", "file"), FILES, ids=[f"{family}-{file}" for family, file in FILES])
def test_a_flipped_bit_is_found(copied: Exported, family: str, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    repository = copied(family)
    path = repository / f"{NAME}_{file}"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for reason in (verified(repository, capsys), start(repository)):
        assert "sha256" in reason
        assert f"{NAME}_{file}" in reason


@pytest.mark.parametrize(("family", "file"), FILES, ids=[f"{family}-{file}" for family, file in FILES])
def test_a_missing_file_is_found(copied: Exported, family: str, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    repository = copied(family)
    (repository / f"{NAME}_{file}").unlink()
    for reason in (verified(repository, capsys), start(repository)):
        assert f"{NAME}_{file}" in reason


def test_the_hash_is_named_before_the_reason_why_a_changed_tokenizer_cannot_be_read(copied: Exported) -> None:
    repository = copied("actionclip")
    path = repository / f"{NAME}_text/1/tokenizer.json"
    path.write_bytes(b"{")  # reading it fails sooner than the weights are hashed
    assert "sha256" in start(repository)
    contract = contract_path(repository, NAME, 1)
    document = json.loads(contract.read_text())
    document["tokenizer_file"]["sha256"] = file_sha256(path)
    contract.write_text(json.dumps(document))
    assert "tokenizer.json cannot be read" in start(repository)


def test_what_was_not_touched_holds(exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for family in FAMILIES:
        repository = exported(family)
        assert verified(repository, capsys) == ""
    repository = exported("actionclip")

    async def load() -> list[str]:
        settings = ServeSettings(repository=repository, model=NAME, cache_dir=tmp_path)
        runtime = await load_runtime(settings, NAME)
        await runtime.close()
        return sorted(runtime.contract.graphs)

    assert asyncio.run(load()) == ["frames", "fusion", "text", "video"]


def rehash(repository: Path, graph: str) -> None:
    """Make the contract agree with a changed graph, as a careful forger would."""
    path = contract_path(repository, NAME, 1)
    document = json.loads(path.read_text())
    document["graphs"][graph]["sha256"] = file_sha256(repository / document["graphs"][graph]["file"])
    path.write_text(json.dumps(document))


def change_constant(path: Path, value: float, *, to: float) -> None:
    """Replace one of the three channel constants (mean or standard deviation, 0..255) inside a graph."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.external_data or tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) != 3:
            continue
        array = numpy_helper.to_array(tensor).copy()
        if np.isclose(array, value).any():
            array[np.isclose(array, value)] = to
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
            path.write_bytes(model.SerializeToString())
            return
    raise AssertionError(f"{path.name} holds no constant {value}")


@pytest.mark.parametrize("which", ["mean", "std"])
@pytest.mark.parametrize("family", ["actionclip", "xclip"])
def test_wrong_normalisation_under_a_right_hash_is_found_by_parity(
    copied: Exported, family: str, which: str, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = copied(family)
    assert start(repository) == "", "the cache remembers that the true graph passed"
    contract = make_contract(repository)
    right = 255 * getattr(contract.preprocess, which)[1]
    change_constant(repository / contract.graphs["video"].file, right, to=1.15 * right)
    rehash(repository, "video")
    assert "differs from torch" in verified(repository, capsys)
    for engine in ("auto", "openvino-f32", "onnxruntime-cpu"):
        assert "relative difference" in start(repository, engine=engine)


def test_a_wrong_half_under_a_right_hash_is_found_by_verify(
    copied: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = copied("actionclip")
    contract = make_contract(repository)
    right = 255 * contract.preprocess.mean[0]
    change_constant(repository / contract.graphs["frames"].file, right, to=0.9 * right)
    rehash(repository, "frames")
    assert "halves" in verified(repository, capsys)


def test_a_graph_that_cannot_run_is_one_line(copied: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    repository = copied("actionclip")
    path = repository / make_contract(repository).graphs["text"].file
    model = onnx.load(path, load_external_data=False)
    gather = next(node for node in model.graph.node if node.op_type == "Gather" and "tokens" in node.input)
    gather.input[1] = "tokens"
    table = next(item for item in model.graph.initializer if item.name == gather.input[0])
    table.dims[0], table.dims[1] = table.dims[1], table.dims[0]
    path.write_bytes(model.SerializeToString())
    rehash(repository, "text")
    assert "model.onnx" in verified(repository, capsys) or "cannot" in verified(repository, capsys)


def test_parity_clips_were_cut_from_pictures_that_are_not_square(exported: Exported) -> None:
    assert all(height != width for height, width in FRAME_SIZES)
    for family in FAMILIES:
        contract = make_contract(exported(family))
        with np.load(exported(family) / contract.parity_file.file) as stored:
            frames = stored["frames"]
        segments, size = contract.sampling.num_segments, contract.preprocess.image_size
        assert frames.shape == (len(FRAME_SIZES), segments, 3, size, size)
        np.testing.assert_array_equal(frames, golden_frames(contract.preprocess, num_segments=segments))
        assert not list(exported(family).rglob(f"{STAGING_PREFIX}*"))


def test_the_clips_distinguish_resize_rules(exported: Exported) -> None:
    rule = make_contract(exported("actionclip")).preprocess
    cut = golden_frames(rule, num_segments=2)
    squashed = dataclasses.replace(rule, resize="squash", short_side=rule.image_size)
    other = dataclasses.replace(rule, short_side=rule.image_size)
    for changed in (squashed, other):
        difference = golden_frames(changed, num_segments=2).astype(int) - cut
        assert (np.abs(difference).mean(axis=(1, 2, 3, 4)) > 1).all(), "every picture shape shows it"
