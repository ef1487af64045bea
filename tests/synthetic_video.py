"""Small videos made on the fly: frame i is painted with a grey level that encodes i, so pixels tell the frame.

`level(i)` steps by 7 of 256 and wraps, far more than H.264 at these settings loses; `index_of` reads it back.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

STEP = 7  # grey levels from a frame to the next
PERIOD = 31  # frames after which levels repeat: 16 + 7 * 30 = 226
TIME_BASE = Fraction(1, 90_000)
DELAYS_MS = (40, 200, 40, 1000, 80, 40, 40, 300)  # of an animation's frames


def level(index: int) -> int:
    """Grey level 0..255 of frame `index`."""
    return 16 + STEP * (index % PERIOD)


def index_of(frame: np.ndarray[Any, np.dtype[np.uint8]]) -> int:
    """Frame number modulo `PERIOD`, read from the pixels of a frame of any size and layout."""
    return round((float(np.median(frame)) - 16) / STEP)


def picture(index: int, *, width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Frame `index`, RGB [H, W, 3]."""
    return np.full((height, width, 3), level(index), dtype=np.uint8)


def make_video(
    path: Path,
    *,
    num_frames: int = 30,
    width: int = 64,
    height: int = 48,
    fps: int = 30,
    seconds: Sequence[float] | None = None,
    rotation: float = 0,
    hflip: bool = False,
    vflip: bool = False,
    gop: int = 12,
    b_frames: int = 2,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    audio: bool = False,
    frames: Iterator[np.ndarray[Any, np.dtype[np.uint8]]] | None = None,
) -> Path:
    """Encode a video.

    `seconds` gives each frame's time (variable rate); `rotation`, `hflip` and `vflip` make its display matrix.
    """
    times = list(seconds) if seconds is not None else [i / fps for i in range(num_frames)]
    painted = frames if frames is not None else (picture(i, width=width, height=height) for i in range(len(times)))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = Fraction(1, fps) if path.suffix == ".avi" else TIME_BASE  # AVI: frame ticks
        if codec == "libx264":
            stream.codec_context.options = {"crf": "12", "preset": "ultrafast", "bf": str(b_frames), "g": str(gop)}
        if rotation or hflip or vflip:
            stream.set_display_rotation(rotation, hflip=hflip, vflip=vflip)
        sound = container.add_stream("aac", rate=44_100) if audio else None
        for time, array in zip(times, painted, strict=True):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts, frame.time_base = round(time / TIME_BASE), TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            _mux_tone(container, sound, seconds=max(1.0, times[-1]))
    return path


def make_variable_rate(path: Path, *, num_frames: int = 30) -> Path:
    """The first half at 30 frames per second, the second at 5."""
    half = num_frames // 2
    return make_video(
        path, seconds=[i / 30 for i in range(half)] + [half / 30 + i / 5 for i in range(num_frames - half)]
    )


def make_audio_only(path: Path) -> Path:
    """One second of a tone, no video stream."""
    with av.open(str(path), "w") as container:
        _mux_tone(container, container.add_stream("aac", rate=44_100), seconds=1.0)
    return path


def make_truncated(path: Path, *, share: float = 0.6, faststart: bool = False) -> Path:
    """The first `share` of a file; with `faststart` its index lies at the start and survives."""
    whole = path.with_suffix(".whole.mp4")
    with av.open(str(whole), "w", options={"movflags": "faststart"} if faststart else {}) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.options = {"crf": "12", "g": "12"}
        noise = np.random.default_rng(0)
        for index in range(60):
            array = picture(index, width=64, height=48)
            array[:8] = noise.integers(0, 256, array[:8].shape, dtype=np.uint8)  # samples large enough to be cut
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode(None))
    data = whole.read_bytes()
    whole.unlink()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def corner_picture(*, width: int = 64, height: int = 48, row: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Dark with a bright block at the left, 16 rows high from `row` on: each of the 8 orientations looks different."""
    array = np.full((height, width, 3), 40, dtype=np.uint8)
    array[row : row + 16, :24] = 220
    return array


def make_oriented_picture(path: Path, orientation: int) -> Path:
    """`corner_picture` with an EXIF orientation, 1 to 8; the suffix chooses the format."""
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(corner_picture()).save(path, exif=exif, quality=95)
    return path


def make_animation(path: Path, *, delays_ms: Sequence[int] = DELAYS_MS) -> Path:
    """Frame i is painted with `level(i)`; the suffix chooses APNG, WebP, AVIF or GIF."""
    first, *others = (Image.fromarray(picture(index, width=64, height=48)) for index in range(len(delays_ms)))
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=others, duration=list(delays_ms), **lossless)
    return path


def make_camera_video(path: Path, orientation: int, *, num_frames: int = 5, rotation: int = 0) -> Path:
    """Motion JPEG whose frames carry an EXIF orientation, as cameras write them; `rotation` is the container's."""
    frame = make_oriented_picture(path.with_suffix(".frame.jpg"), orientation).read_bytes()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(num_frames):
            packet = av.Packet(frame)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
            packet.pts = packet.dts = index
            packet.duration = 1
            container.mux(packet)
    return path


def make_picture(path: Path, *, width: int = 64, height: int = 48) -> Path:
    """A still picture; the suffix chooses JPEG or PNG."""
    codec, pix_fmt = ("mjpeg", "yuvj420p") if path.suffix in (".jpg", ".jpeg") else ("png", "rgb24")
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt, context.time_base = width, height, pix_fmt, Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(picture(10, width=width, height=height), format="rgb24").reformat(format=pix_fmt)
    packets = [*context.encode(frame), *context.encode(None)]
    path.write_bytes(b"".join(bytes(packet) for packet in packets))
    return path


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """A few bytes changed, or a stretch cut, doubled or zeroed, at random places."""
    broken = bytearray(data)
    for _ in range(int(random.integers(1, 12))):
        at, length = int(random.integers(0, len(broken))), int(random.integers(1, 64))
        match int(random.integers(0, 5)):
            case 0:
                broken[at] = int(random.integers(0, 256))
            case 1:
                broken[at : at + length] = bytes(len(broken[at : at + length]))
            case 2:
                del broken[at : at + length]
            case 3:
                broken[at:at] = broken[at : at + length]
            case _:
                broken[at : at + 4] = random.bytes(len(broken[at : at + 4]))
        if len(broken) < 16:
            break
    return bytes(broken)


def _mux_tone(container: Any, stream: Any, *, seconds: float) -> None:
    samples = np.sin(np.arange(int(44_100 * seconds)) * (2 * np.pi * 440 / 44_100)).astype(np.float32)
    for start in range(0, len(samples) - 1024, 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
        frame.rate, frame.pts = 44_100, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
