"""Detect truncated files, such as interrupted uploads and recordings.

FFmpeg decodes such a file up to its end without an error. A file whose index matches its data is complete, even if the
recording was stopped early.
"""

import av

from serve.video.ebml import read_segment_end
from serve.video.packet_index import PacketIndex
from serve.video.tracks import MATROSKA, MOV
from serve.video.video_file import VideoFile

TAIL_PACKETS = 16  # a demuxer may return a few packets after the incomplete last packet of the file
TRANSPORT_PACKET_BYTES = (188, 192, 204)  # MPEG-2 transport streams, with time code (M2TS), with parity


def is_truncated(file: VideoFile, stream: av.VideoStream, index: PacketIndex) -> bool:
    """Return whether data of the stream is missing at the end of the file."""
    file_bytes = file.stat().st_size
    container = stream.container.format.name
    if index.last_corrupt >= max(0, len(index.entries) - TAIL_PACKETS):
        return True
    if container == MOV:
        entries = stream.index_entries
        return len(entries) > 0 and entries[-1].pos + entries[-1].size > file_bytes
    if container == MATROSKA:
        return (read_segment_end(file) or 0) > file_bytes
    return container == "mpegts" and all(file_bytes % size for size in TRANSPORT_PACKET_BYTES)
