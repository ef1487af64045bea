"""Configurations are read by the real core as strictly as in production, and a wrong one is found."""

import shutil
from pathlib import Path

import pytest

from tests.triton.core import needs_triton, triton_core

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


def test_the_core_takes_every_family_as_it_was_exported(triton_repository: Path, tmp_path: Path) -> None:
    with triton_core(triton_repository, tmp_path / "core", options=STRICT) as core:
        assert core.process.poll() is None
