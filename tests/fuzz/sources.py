"""Clips that are rewritten: small encodes of every codec with its odd habits, and real clips where they are there."""

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.scheduling import ordinary_priority
from tests.shared_data import FIELD, ODD, VIDEOS

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".3gp", ".gif")
MAX_REAL_BYTES = 1_000_000  # larger clips cost time and show nothing new


@dataclass(frozen=True)
class Encode:
    """How one synthetic clip is made."""

    codec: str
    suffix: str = ".mkv"
    size: tuple[int, int] = (128, 96)
    pix_fmt: str = "yuv420p"
    num_frames: int = 48
    options: tuple[tuple[str, str], ...] = ()


def _x264(**params: object) -> tuple[tuple[str, str], ...]:
    joined = ":".join(f"{name.replace('_', '-')}={value}" for name, value in params.items())
    return (("preset", "veryfast"), ("x264-params", joined))


def _x265(**params: object) -> tuple[tuple[str, str], ...]:
    joined = ":".join(f"{name.replace('_', '-')}={value}" for name, value in params.items())
    return (("preset", "ultrafast"), ("x265-params", f"log-level=none:{joined}"))


def _svt(**params: object) -> tuple[tuple[str, str], ...]:
    joined = ":".join(f"{name.replace('_', '-')}={value}" for name, value in params.items())
    return (("preset", "12"), ("svtav1-params", joined))


ENCODES = {
    "h264-closed": Encode("libx264", ".mp4", options=_x264(keyint=12, bframes=2)),
    "h264-open": Encode("libx264", ".mp4", options=_x264(keyint=12, bframes=2, open_gop=1, b_pyramid="none")),
    "h264-open-pyramid": Encode("libx264", ".mp4", options=_x264(keyint=12, bframes=4, open_gop=1, b_adapt=0)),
    "h264-refresh": Encode("libx264", ".mp4", options=_x264(keyint=16, bframes=0, intra_refresh=1)),
    "h264-no-b": Encode("libx264", ".mp4", options=_x264(keyint=10, bframes=0)),
    "h264-deep": Encode("libx264", ".mp4", options=_x264(keyint=40, bframes=8, b_adapt=0, ref=6)),
    "h264-mbaff": Encode("libx264", ".mp4", options=_x264(keyint=12, bframes=2, interlaced=1)),
    "h264-slices": Encode("libx264", ".mp4", (96, 128), options=_x264(keyint=9, bframes=1, slices=4)),
    "h264-444": Encode("libx264", ".mp4", (112, 80), "yuv444p", options=_x264(keyint=12, bframes=3)),
    "hevc-open": Encode("libx265", ".mp4", options=_x265(keyint=12, bframes=3, open_gop=1)),
    "hevc-closed": Encode("libx265", ".mp4", (112, 96), options=_x265(keyint=12, bframes=2, open_gop=0)),
    "hevc-layers": Encode("libx265", ".mp4", options=_x265(keyint=16, bframes=4, temporal_layers=3, b_adapt=0)),
    "mpeg4-b": Encode("mpeg4", options=(("g", "12"), ("bf", "2"))),
    "mpeg4": Encode("mpeg4", size=(96, 80), options=(("g", "10"),)),
    "mpeg2-open": Encode("mpeg2video", options=(("g", "12"), ("bf", "2"))),
    "mpeg2-closed": Encode("mpeg2video", size=(96, 80), options=(("g", "12"), ("bf", "2"), ("flags", "+cgop"))),
    "mpeg1": Encode("mpeg1video", options=(("g", "9"), ("bf", "1"))),
    "h263": Encode("h263", ".avi", (176, 144), options=(("g", "10"),)),
    "flv1": Encode("flv", ".flv", (176, 144), options=(("g", "10"),)),
    "vp8": Encode("libvpx", ".webm", options=(("g", "15"), ("auto-alt-ref", "1"), ("lag-in-frames", "10"))),
    "vp9": Encode("libvpx-vp9", ".webm", options=(("g", "15"), ("lag-in-frames", "10"), ("cpu-used", "8"))),
    "av1": Encode("libsvtav1", ".webm", options=_svt(keyint=16)),
    "av1-open": Encode("libsvtav1", ".mp4", options=_svt(keyint=16, irefresh_type=1)),  # forward key frames
    "av1-low-delay": Encode("libsvtav1", ".mkv", (112, 96), options=_svt(keyint=12, pred_struct=1)),
    "av1-overlays": Encode("libsvtav1", ".mp4", options=_svt(keyint=24, enable_overlays=1, lookahead=20)),
    "av1-10bit-grain": Encode("libsvtav1", ".webm", (96, 80), "yuv420p10le", options=_svt(keyint=12, film_grain=20)),
    "av1-scaled": Encode("libsvtav1", ".webm", (160, 128), options=_svt(keyint=16, superres_mode=3, resize_mode=3)),
    "av1-tiles": Encode("libsvtav1", ".mp4", (192, 128), options=_svt(keyint=16, tile_columns=1, tile_rows=1)),
    "mjpeg": Encode("mjpeg", ".avi", pix_fmt="yuvj420p"),
    "ffv1": Encode("ffv1", options=(("g", "8"),)),
    "msmpeg4v3": Encode("msmpeg4", ".avi", options=(("g", "10"),)),
    "wmv2": Encode("wmv2", ".asf", options=(("g", "10"),)),
    "huffyuv": Encode("ffvhuff", ".avi"),
    "prores": Encode("prores_ks", ".mov", pix_fmt="yuv422p10le", num_frames=12),
}


def make_sources(folder: Path) -> dict[str, Path]:
    """Encode the synthetic clips this FFmpeg can encode, and add the real ones: name -> file."""
    os.environ.setdefault("SVT_LOG", "1")  # errors only
    found = {}
    for name, wanted in ENCODES.items():
        try:
            found[name] = encode(folder / f"{name}{wanted.suffix}", wanted, seed=len(found))
        except (av.error.FFmpegError, av.codec.codec.UnknownCodecError):
            continue
    for real in (VIDEOS, ODD, FIELD):
        for path in sorted(real.glob("*.*")) if real.is_dir() else []:
            if path.suffix in SUFFIXES and path.stat().st_size <= MAX_REAL_BYTES and "huge" not in path.name:
                found[f"{real.name}/{path.name}"] = path
    return found


def encode(path: Path, wanted: Encode, *, seed: int) -> Path:
    """Encode a clip of moving squares."""
    width, height = wanted.size
    with ordinary_priority(), av.open(str(path), "w") as container:
        stream: Any = container.add_stream(wanted.codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, wanted.pix_fmt
        stream.codec_context.time_base = Fraction(1, 25)
        stream.codec_context.options = dict(wanted.options)
        for index, picture in enumerate(_pictures(wanted, seed)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=wanted.pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _pictures(encode: Encode, seed: int) -> "list[np.ndarray[Any, np.dtype[np.uint8]]]":
    """Moving squares over noise: every frame differs from every other, and prediction has work to do."""
    random = np.random.default_rng(seed)
    width, height = encode.size
    ground = random.integers(0, 96, (height, width, 3), dtype=np.uint8)
    pictures = []
    for index in range(encode.num_frames):
        picture = np.roll(ground, index, axis=1)
        left, top = (5 * index + seed) % (width - 24), (3 * index) % (height - 24)
        picture[top : top + 24, left : left + 24] = (16 + 5 * index) % 240
        pictures.append(picture)
    return pictures
