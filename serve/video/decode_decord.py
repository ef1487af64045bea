"""Decoding with decord, for comparisons: the same frames as with PyAV, from fewer formats.

decord bundles an old FFmpeg, counts packets instead of shown frames and follows playlists. So a file is first opened
and checked with PyAV, and refused if the two may differ on the frames. decord may hang while it holds the GIL, or abort
the process; use it only in a decode child.
"""

from typing import Any

import decord
import numpy as np

from serve.arrays import UInt8Array
from serve.errors import UndecodableVideo, UnsupportedMedia
from serve.video.decode_pillow import PillowVideo
from serve.video.decode_pyav import Choose, DecodedFrames, PyavVideo, Take, within
from serve.video.limits import DecodeSettings
from serve.video.pictures import is_quarter_turn
from serve.video.streams import track_facts

# In other containers decord has returned wrong frames (MPEG program and transport streams) or failed (GIF, pictures).
# AVI is correct if the numbers of packets and frames are equal.
CONTAINERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"})


def read(video: PyavVideo | PillowVideo, choose: Choose, *, take: Take, settings: DecodeSettings) -> DecodedFrames:
    """Decode the frames that `choose` selects with decord, and keep the result of `take` for each.

    Raises:
        UnsupportedMedia: decord does not read this container exactly.
        UndecodableVideo: decord fails on the file, or counts a different number of frames.
    """
    if video.container not in CONTAINERS or isinstance(video, PillowVideo) or video.is_still:
        raise UnsupportedMedia(f"decord does not read the container {video.container} exactly; the pyav decoder does")
    _refuse_other_track(video)
    timeline = video.counted()
    indices = within(choose(timeline.num_frames), timeline.num_frames)
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(video.path), num_threads=settings.thread_count())
        if len(reader) != timeline.num_frames:
            raise UndecodableVideo(
                f"decord counts {len(reader)} frames, the video shows {timeline.num_frames}; the pyav decoder reads it",
                num_frames=timeline.num_frames,
            )
        kept: dict[int, Any] = {int(i): take(_picture(reader, int(i))) for i in np.unique(indices)}
    except (decord.DECORDError, RuntimeError) as error:
        raise UndecodableVideo("decord cannot decode this video; the pyav decoder may") from error
    return DecodedFrames(timeline, indices, kept)


def _refuse_other_track(video: PyavVideo) -> None:
    """Refuse files that decord shows differently: it chooses the track itself, and it only rotates by the matrix."""
    num_tracks, matrix = track_facts(video.path, video.stream_index)
    if num_tracks > 1:
        raise UndecodableVideo(
            f"the file has {num_tracks} video tracks, and decord may read another one than players show; "
            "the pyav decoder reads the one they show",
            num_tracks=num_tracks,
        )
    if not is_quarter_turn(matrix):
        raise UndecodableVideo("decord does not mirror or scale by the display matrix; the pyav decoder mirrors")


def _picture(reader: decord.VideoReader, index: int) -> UInt8Array:
    """Decode one frame as RGB [H, W, 3]; decord applies the rotation of the display matrix."""
    picture: UInt8Array = reader[index].asnumpy()
    if picture.shape[-1] != 3:  # seen where a side is shorter than 16 pixels
        raise UndecodableVideo("decord cannot decode pictures this narrow; the pyav decoder can")
    return picture
