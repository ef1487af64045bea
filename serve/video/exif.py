"""Remove EXIF data from the frames of Motion JPEG videos, because video players ignore the EXIF orientation.

FFmpeg 8.1 converts the EXIF orientation of every JPEG it decodes to a display matrix, which overrides the container's.
For a still image this is what image viewers do. But players of Motion JPEG video (VLC, QuickTime, Windows Media Player,
ffplay before 8.1) use only the container's matrix, and cameras write EXIF data to each frame. So the EXIF data of video
frames is hidden from the decoder.
"""

import re

import av

_HEADER_BYTES = 2**17  # two segments of maximum size: EXIF is the first segment, or follows the JFIF segment
_SEGMENT = re.compile(rb"(\xff\xe1..)Exif\x00\x00", re.DOTALL)  # APP1 marker, length, identifier


def may_have_exif(container: str, codec: str) -> bool:
    """Return whether frames may have EXIF data that must be hidden, given FFmpeg's names of container and codec."""
    return codec == "mjpeg" and not container.endswith("_pipe")


def hide_exif_(packet: av.Packet) -> None:
    """Rename the EXIF segments of a JPEG frame in place, so that the decoder skips them."""
    head = bytes(packet)[:_HEADER_BYTES]
    hidden = _SEGMENT.sub(rb"\1\0\0\0\0\0\0", head)
    if hidden != head:
        packet.update(hidden + bytes(packet)[_HEADER_BYTES:])
