"""Decode with decord, for comparisons: it returns the same frames as PyAV, but supports fewer formats.

decord bundles an old FFmpeg, counts packets instead of shown frames and follows playlists. So each file is first opened
and checked with PyAV, and rejected if PyAV and decord might return different frames. decord may hang while it holds the
GIL, or abort the process; use it only in a decode child.
"""

from typing import Any

import decord
import numpy as np

from serve.arrays import UInt8Array
from serve.errors import UndecodableVideo, UnsupportedMedia
from serve.video.decode_pillow import PillowVideo
from serve.video.decode_pyav import PyavVideo
from serve.video.decoded_frames import DecodedFrames, FrameSelector, FrameTransform, check_indices
from serve.video.limits import DecodeSettings
from serve.video.pictures import is_quarter_turn
from serve.video.streams import read_track_info

# In other containers decord has returned wrong frames (MPEG program and transport streams) or failed (GIF, images).
# AVI is correct if the numbers of packets and frames are equal.
CONTAINERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"})


def read(
    video: PyavVideo | PillowVideo, choose: FrameSelector, *, transform: FrameTransform, settings: DecodeSettings
) -> DecodedFrames:
    """Decode the frames that `choose` selects with decord; return the result of `transform` for each.

    Raises:
        UnsupportedMedia: decord is not frame-accurate for this container.
        UndecodableVideo: decord fails on the file, counts another number of frames, or might display it differently.
    """
    if video.container not in CONTAINERS or isinstance(video, PillowVideo) or video.is_still:
        raise UnsupportedMedia(f"decord is not frame-accurate for {video.container} files; use the pyav decoder")
    _check_same_display(video)
    timeline = video.read_timeline()
    indices = check_indices(choose(timeline.num_frames), timeline.num_frames)
    decord.logging.set_level(decord.logging.QUIET)
    try:
        with video.file.open("rb") as stream:  # decord copies the whole file into memory
            reader = decord.VideoReader(stream, num_threads=settings.thread_count())
        if len(reader) != timeline.num_frames:
            raise UndecodableVideo(
                f"decord finds {len(reader)} frames, but the video has {timeline.num_frames}; use the pyav decoder",
                num_frames=timeline.num_frames,
            )
        values: dict[int, Any] = {int(i): transform(_decode_frame(reader, int(i))) for i in np.unique(indices)}
    except (decord.DECORDError, RuntimeError) as error:
        raise UndecodableVideo("decord cannot decode this video; try the pyav decoder") from error
    return DecodedFrames(timeline, indices, values)


def _check_same_display(video: PyavVideo) -> None:
    """Check that decord displays the file as players do.

    decord selects a video track by itself, and it applies only the rotation of the display matrix.

    Raises:
        UndecodableVideo: the file has several video tracks, or a display matrix that mirrors or scales.
    """
    num_tracks, matrix = read_track_info(video.file, video.stream_index)
    if num_tracks > 1:
        raise UndecodableVideo(
            f"the file has {num_tracks} video tracks, and decord may select a different one than players do; "
            "use the pyav decoder",
            num_tracks=num_tracks,
        )
    if not is_quarter_turn(matrix):
        raise UndecodableVideo(
            "decord ignores mirroring and scaling in the display matrix of this video; use the pyav decoder"
        )


def _decode_frame(reader: decord.VideoReader, index: int) -> UInt8Array:
    """Decode one frame as RGB [H, W, 3]; decord applies the rotation of the display matrix."""
    frame: UInt8Array = reader[index].asnumpy()
    if frame.shape[-1] != 3:  # observed if a side is shorter than 16 pixels
        raise UndecodableVideo("decord cannot decode frames this narrow; use the pyav decoder")
    return frame
