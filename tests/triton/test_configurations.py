"""Configurations are read by the real core as strictly as in production, and a wrong one is found."""

import asyncio
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest

from serve.engines.triton_configuration import read_configuration
from serve.errors import ContractError
from serve.models.runtime import ModelRuntime, load_runtime
from serve.repository import read_version
from serve.settings import ServeSettings, TritonSettings
from tests.triton.core import ROOT, needs_triton, triton_core

pytestmark = [pytest.mark.triton, needs_triton()]
STRICT = ("--model-control-mode=none", "--exit-on-error=true", "--strict-readiness=true")


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("dims: [8, 3, 80, 80]", "dims: [8, 3, 81, 80]"),
        ("TYPE_UINT8", "TYPE_FP32"),
        ("max_batch_size", "max_batchsize"),
    ],
)
def test_the_core_refuses_what_differs_from_the_graph(
    triton_repository: Path, tmp_path: Path, written: str, wrong: str
) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(triton_repository / "demo_video", repository / "demo_video")
    path = repository / "demo_video" / "config.pbtxt"
    assert written in path.read_text()
    path.write_text(path.read_text().replace(written, wrong))
    with (
        pytest.raises(RuntimeError, match="tritonserver ended"),
        triton_core(repository, tmp_path / "core", options=STRICT),
    ):
        pass


async def test_the_core_takes_the_bundled_model_as_it_lies_there(triton_repository: Path, tmp_path: Path) -> None:
    """The other families' configurations are read by the core wherever an engine has it load them.

    This server takes no orders: an engine waits for what it has, and cannot have it load or drop anything.
    """
    with triton_core(ROOT / "model_repository", tmp_path / "core", options=STRICT) as core:
        assert core.process.poll() is None
        index = (await asyncio.to_thread(httpx.post, f"{core.http}/v2/repository/index")).json()
        assert {(item["name"], item["state"]) for item in index} >= {("demo_text", "READY"), ("demo_video", "READY")}
        settings = ServeSettings(
            repository=triton_repository, cache_dir=tmp_path / "cache", engine="triton",
            triton=TritonSettings(url=core.grpc, load_timeout_seconds=2),
        )  # fmt: skip
        runtime = await load_runtime(settings, "demo")
        await runtime.engine.unload()
        assert await _answers(runtime)
        await runtime.close()
        with pytest.raises(ContractError, match="within 2 s: tiny_text is not ready; the server reports no versions"):
            await load_runtime(settings, "tiny@1")


async def _answers(runtime: ModelRuntime) -> bool:
    features = await runtime.engine.encode_text(np.full((1, 2), runtime.contract.text.pad_id, np.int64))
    return features.shape == (1, runtime.contract.embed_dim)


@pytest.mark.parametrize("name", ["demo", "tiny", "other", "fused"])
def test_configurations_read_back_as_the_contract_says(triton_repository: Path, name: str) -> None:
    contract = read_version(triton_repository, name, 1)
    for part in ("text", "video"):
        read = read_configuration(triton_repository / f"{name}_{part}", "")
        assert read["name"] == f"{name}_{part}"
        assert read["version_policy"] == {"all": {}}
        for kind in ("input", "output"):
            tensors = getattr(contract.graphs[part], f"{kind}s")
            dims = {item["name"]: [int(size) for size in item["dims"]] for item in read[kind]}
            assert dims == {
                tensor.name: [axis if isinstance(axis, int) else -1 for axis in tensor.axes[1:]] for tensor in tensors
            }
