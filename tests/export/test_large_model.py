"""A model whose weights exceed the 2 GB one protobuf message may hold."""

import dataclasses
import resource
from pathlib import Path

import pytest
import torch

from export.exporter import export_checkpoint
from export.loading import read_tokenizer
from export.verification import verify_version
from tests.models import VISION, tiny_checkpoint
from training.models.registry import build_model

WIDE = {**VISION, "width": 3840, "layers": 3, "heads": 30, "patch_size": 32}  # 543 million weights, few operations
PROTOBUF_LIMIT = 2**31
PEAK_BYTES = 10 * 2**30


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_over_two_gigabytes_is_exported_and_holds(tmp_path: Path) -> None:
    small = tiny_checkpoint("clip")
    config = {**small.model_config, "vision": WIDE, "num_frames": 2}
    torch.manual_seed(1)
    sampling = dataclasses.replace(small.sampling, num_segments=2)
    checkpoint = dataclasses.replace(
        small, model_config=config, weights=build_model("clip", config).state_dict(), sampling=sampling
    )
    exported = export_checkpoint(checkpoint, read_tokenizer(checkpoint, None), name="wide", repository=tmp_path)
    data = tmp_path / "wide_video" / "1" / "model.onnx.data"
    assert PROTOBUF_LIMIT < data.stat().st_size < 1.2 * PROTOBUF_LIMIT, "the halves share the whole's weights"
    assert all(path.stat().st_size < 2**20 for path in data.parent.glob("*.onnx"))
    del checkpoint
    again = verify_version(tmp_path, "wide")
    assert again.contract == exported.contract
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{data.stat().st_size / 2**30:.2f} GiB, {exported.seconds}, peak {peak / 2**30:.1f} GiB")
    assert peak < PEAK_BYTES
