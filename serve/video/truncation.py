"""Tell whether a file breaks off: an upload or a recording that was interrupted.

FFmpeg plays such a file to its end without an error. A stream that merely stops, with an index that was written for
what is there, is complete.
"""

from pathlib import Path

import av

from serve.video.ebml import segment_end
from serve.video.packet_index import PacketIndex
from serve.video.tracks import MATROSKA, MOV

TAIL_PACKETS = 16  # a packet that is cut comes at the end, but a demuxer may hand out a few after it
TRANSPORT_PACKET_BYTES = (188, 192, 204)  # MPEG-2 transport streams, with time code (M2TS), with parity


def breaks_off(path: Path, stream: av.VideoStream, index: PacketIndex) -> bool:
    """Return whether data of the stream is missing at the end of the file."""
    num_bytes = path.stat().st_size
    container = stream.container.format.name
    if index.last_corrupt >= max(0, len(index.entries) - TAIL_PACKETS):
        return True
    if container == MOV:
        entries = stream.index_entries
        return len(entries) > 0 and entries[-1].pos + entries[-1].size > num_bytes
    if container == MATROSKA:
        return (segment_end(path) or 0) > num_bytes
    return container == "mpegts" and all(num_bytes % size for size in TRANSPORT_PACKET_BYTES)
