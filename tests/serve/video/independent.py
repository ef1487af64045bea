"""Frames by an independent program: the ffmpeg executable of `imageio-ffmpeg`, every frame, no planning."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from serve.arrays import UInt8Array


def ffmpeg_frames(path: Path, *, width: int, height: int, stream: int = 0) -> Iterator[UInt8Array]:
    """All frames of a video stream, by default the first, upright, RGB [H, W, 3], one after the other."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-map", f"0:v:{stream}",
        "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-",
    ]  # fmt: skip
    size = width * height * 3
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while len(data := process.stdout.read(size)) == size:
            yield np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)
