"""Decoding with decord, for those who compare: the same frames as PyAV, from fewer formats.

decord bundles an old ffmpeg, counts packets instead of shown frames and follows playlists, so a file is opened and
checked with PyAV first and refused where the two cannot agree on the frames. decord may hang, holding the interpreter's
lock, or abort; only in a decode child does that stay without harm.
"""

from typing import Any

import decord
import numpy as np

from serve.arrays import UInt8Array
from serve.errors import UndecodableVideo, UnsupportedMedia
from serve.video.decode_pyav import Choose, PyavVideo, Reading, Take, within
from serve.video.limits import DecodeSettings

# Elsewhere decord was seen to return other frames than asked for (MPEG program and transport streams), or to fail (GIF,
# pictures). AVI is right where its packets and its frames are equal in number.
CONTAINERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"})


def read(video: PyavVideo, choose: Choose, *, take: Take, settings: DecodeSettings) -> Reading:
    """Decode the frames `choose` wants with decord and keep what `take` makes of each.

    Raises:
        UnsupportedMedia: a container decord does not read exactly.
        UndecodableVideo: decord fails on the file, or counts other frames than it shows.
    """
    if video.container not in CONTAINERS:
        raise UnsupportedMedia(f"decord does not read the container {video.container} exactly; the pyav decoder does")
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
    return Reading(timeline, indices, kept)


def _picture(reader: decord.VideoReader, index: int) -> UInt8Array:
    """Upright RGB [H, W, 3]; decord turns by the display matrix itself."""
    picture: UInt8Array = reader[index].asnumpy()
    if picture.shape[-1] != 3:  # seen where a side is shorter than 16 pixels
        raise UndecodableVideo("decord cannot decode pictures this narrow; the pyav decoder can")
    return picture
