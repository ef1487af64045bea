"""Too little shared memory is an error before the first step, in bytes wanted and found."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from training.config import ConfigError, DataConfig
from training.data.shared_memory import MIB, check_shared_memory, clip_num_bytes


def test_what_is_wanted_and_found_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_bavail=64 * 256, f_frsize=4096))  # 64 MiB
    with pytest.raises(ConfigError, match=r"4 loading processes need up to 90 MiB.*64 MiB free.*--shm-size"):
        check_shared_memory(MIB, batch_size=10, workers=4, folder=tmp_path)
    check_shared_memory(MIB, batch_size=7, workers=4, folder=tmp_path)
    check_shared_memory(MIB, batch_size=1000, workers=0, folder=tmp_path)
    check_shared_memory(MIB, batch_size=1000, workers=4, folder=tmp_path / "no such folder")


def test_a_clip_is_measured() -> None:
    assert clip_num_bytes(DataConfig(num_frames=8, image_size=224)) == 8 * 3 * 224 * 224
