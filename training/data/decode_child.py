"""What runs inside a decode process of training: its limits, then one job after the other, until the pipe closes.

Loads no torch, so that it starts in a fraction of a second and stays small. Started by `decode_process.py` alone.
"""

import contextlib
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from serve.arrays import Int64Array, UInt8Array
from serve.errors import ActserveError, DecodeLimitExceeded, UndecodableVideo
from serve.video.child import prepare, raise_processor_limit
from serve.video.decode import load_views, open_video, read_frames
from serve.video.limits import DecodeSettings
from serve.video.preprocess import pillow_bicubic, scaled_size
from serve.video.views import ViewRequest
from training.data.annotations import FRAME_TEMPLATE


def frames(pipe: Connection, settings: DecodeSettings, *, path: Path) -> int:
    """Send the frames the parent chooses once it knows their number; answers how many there are to choose from."""

    def choose(num_frames: int) -> Int64Array:
        pipe.send(("choose", num_frames))
        chosen: Int64Array = pipe.recv()
        return chosen

    reading = read_frames(open_video(path, settings), choose, take=np.copy, settings=settings)
    distinct, places = np.unique(reading.indices, return_inverse=True)  # a short video repeats frames
    pipe.send(("frames", ([reading.kept[int(index)].shape for index in distinct], places.tolist())))
    for index in distinct:
        pipe.send_bytes(np.ravel(reading.kept[int(index)]))
    return reading.timeline.num_frames


def views(pipe: Connection, settings: DecodeSettings, *, path: Path, request: ViewRequest) -> int:
    """Send the views serving would compute; answers how many frames the video shows."""
    decoded = load_views(path, request, settings=settings)
    pipe.send(("frames", ([decoded.views.shape], [0])))
    pipe.send_bytes(np.ravel(decoded.views))
    return decoded.metadata.num_frames


def extract(
    pipe: Connection, settings: DecodeSettings, *, path: Path, folder: Path, quality: int, short_side: int
) -> dict[str, int]:
    """Write all frames as `img_00001.jpg` ... into an empty folder; `short_side` 0 keeps the size, none grow."""
    written: list[Path] = []

    def take(frame: UInt8Array) -> Path:
        """Under a number of its own: a pass may be begun anew, and only at the end is it known which frame is which."""
        target = folder / f"pass_{len(written)}.jpg"
        Image.fromarray(_shrunk(frame, short_side)).save(target, quality=quality)
        written.append(target)
        return target

    reading = read_frames(open_video(path, settings), np.arange, take=take, settings=settings)
    for index in reading.indices.tolist():
        reading.kept[index].rename(folder / FRAME_TEMPLATE.format(index + 1))
    for leftover in folder.glob("pass_*.jpg"):
        leftover.unlink()
    return {"num_frames": reading.timeline.num_frames, "num_broken_packets": reading.num_broken_packets}


JOBS: dict[str, Callable[..., Any]] = {"frames": frames, "views": views, "extract": extract}


def _shrunk(frame: UInt8Array, short_side: int) -> UInt8Array:
    if not 0 < short_side < min(frame.shape[:2]):
        return frame
    height, width = scaled_size(frame.shape[0], frame.shape[1], short_side, rounding="half_up")
    return pillow_bicubic(frame, width, height)


def answer(pipe: Connection, settings: DecodeSettings, name: str, arguments: dict[str, Any]) -> tuple[str, Any]:
    """Do one job; what is wrong with a file comes back as an error of this project or as an OSError."""
    raise_processor_limit(settings.max_cpu_seconds)
    try:
        return "done", JOBS[name](pipe, settings, **arguments)
    except MemoryError:
        return "error", DecodeLimitExceeded(
            "decoding needs more memory than allowed", limit_bytes=settings.max_memory_bytes
        )
    except (ActserveError, OSError) as error:
        return "error", error
    except Exception as error:  # a fault of ours or of a library: the file is given up, the run is not
        return "error", UndecodableVideo(f"decoding failed in a way nobody foresaw: {type(error).__name__}: {error}")


def main(descriptor: int) -> None:
    """Serve the pipe until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends this process
    pipe = Connection(descriptor)
    settings: DecodeSettings = pipe.recv()
    cv2.setNumThreads(1)
    Image.MAX_IMAGE_PIXELS = None  # pictures here come from a decoder with a limit of its own
    prepare(settings)
    pipe.send(("done", None))
    with contextlib.suppress(EOFError, ConnectionResetError, BrokenPipeError):
        while True:
            name, arguments = pipe.recv()
            pipe.send(answer(pipe, settings, name, arguments))


if __name__ == "__main__":
    main(int(sys.argv[1]))
