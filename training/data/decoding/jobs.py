"""Jobs that training runs in a decode child: return frames or views, or write all frames as JPEG files."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from serve.arrays import UInt8Array
from serve.video.child import Job
from serve.video.decode import load_views, open_video, read_frames
from serve.video.preprocess import pillow_bicubic, scaled_size
from serve.video.view_request import ViewRequest
from training.data.frame_folders import FRAME_TEMPLATE


def frames(job: Job) -> dict[str, object]:
    """Send the frames that the parent chooses once it knows their number; each distinct frame is sent once.

    Returns `num_frames` and `positions`, the position of each chosen frame among the sent arrays.
    """
    reading = read_frames(open_video(job.file, job.settings), job.choose, transform=np.copy, settings=job.settings)
    distinct, positions = np.unique(reading.indices, return_inverse=True)  # a short video repeats frames
    for index in distinct:
        job.send_array(reading.values[int(index)])
    return {"num_frames": reading.timeline.num_frames, "positions": positions.reshape(-1).tolist()}


def probe(job: Job) -> dict[str, object]:
    """Open a file as serving does, without decoding it; the error says why the file is not a video."""
    return {"container": open_video(job.file, job.settings).container}


def views(job: Job, *, request: ViewRequest) -> dict[str, object]:
    """Send the views that serving computes; return the number of frames of the video."""
    cv2.setNumThreads(1)  # training has one child per worker
    decoded = load_views(job.file, request, settings=job.settings)
    job.send_array(decoded.views)
    return {"num_frames": decoded.metadata.num_frames}


def extract(job: Job, *, folder: Path, quality: int, short_side: int) -> dict[str, int]:
    """Write all frames as `img_00001.jpg`, `img_00002.jpg`, ... into an empty folder.

    `short_side` is the shorter side of the images in pixels; 0 keeps the size, and smaller frames are not enlarged.
    """
    Image.MAX_IMAGE_PIXELS = None  # the decoder limits the number of pixels
    written: list[Path] = []

    def take(frame: UInt8Array) -> Path:
        """Write a frame under a temporary name, because decoding may restart; the final names are set at the end."""
        target = folder / f"pass_{len(written)}.jpg"
        Image.fromarray(_shrink(frame, short_side)).save(target, quality=quality)
        written.append(target)
        return target

    reading = read_frames(open_video(job.file, job.settings), np.arange, transform=take, settings=job.settings)
    for index in reading.indices.tolist():
        reading.values[index].rename(folder / FRAME_TEMPLATE.format(index + 1))
    for leftover in folder.glob("pass_*.jpg"):
        leftover.unlink()
    return {"num_frames": reading.timeline.num_frames, "num_broken_packets": reading.num_broken_packets}


def _shrink(frame: UInt8Array, short_side: int) -> UInt8Array:
    if not 0 < short_side < min(frame.shape[:2]):
        return frame
    height, width = scaled_size(frame.shape[0], frame.shape[1], short_side, rounding="half_up")
    return pillow_bicubic(frame, width, height)
