"""EXIF in the frames of a video: a note of the camera, not an orientation to show the video in.

FFmpeg 8.1 turns the EXIF orientation of every JPEG it decodes into a display matrix, in place of the container's. For a
still picture that is what viewers do. The players of Motion JPEG video (VLC, QuickTime, Windows Media Player, ffplay
before 8.1) honour the container's matrix and no EXIF, and cameras repeat in each frame the EXIF of a photograph. So
video frames lose their EXIF before they are decoded.
"""

import re

import av

_HEADER_BYTES = 2**17  # two segments of the largest size; EXIF comes first, or after the JFIF segment
_SEGMENT = re.compile(rb"(\xff\xe1..)Exif\x00\x00", re.DOTALL)  # APP1 marker, length, identifier


def carries_exif(container: str, codec: str) -> bool:
    """Whether frames of this codec may carry EXIF that has to be hidden, for FFmpeg's names of container and codec."""
    return codec == "mjpeg" and not container.endswith("_pipe")


def hide_exif_(packet: av.Packet) -> None:
    """Rename the EXIF segments of a JPEG frame in place, so that the decoder skips them."""
    head = bytes(packet)[:_HEADER_BYTES]
    hidden = _SEGMENT.sub(rb"\1\0\0\0\0\0\0", head)
    if hidden != head:
        packet.update(hidden + bytes(packet)[_HEADER_BYTES:])
