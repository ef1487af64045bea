"""Find the samples without data at the end of an MP4, MOV or AVI file; each repeats the picture before it.

FFmpeg's demuxers leave them out, so that only the index of the file tells how long the last picture is shown. The
duration in the header is not used, because recorders write wrong ones.
"""

import av

from serve.video.packet_index import PacketIndex
from serve.video.video_file import VideoFile

_MAX_INDEX_BYTES = 64 * 2**20
_ENTRY_BYTES = 16  # of an AVI index: chunk type, flags, offset, size
_KINDS = (b"dc", b"db")  # compressed and uncompressed pictures


def count_empty_ticks(file: VideoFile, stream: av.VideoStream, index: PacketIndex) -> int:
    """Return the duration of the empty samples at the end of a stream, in ticks of its time base."""
    if stream.container.format.name == "avi":
        last = max((entry.dts for entry in index.entries if entry.dts is not None), default=0)
        return _count_chunks(file, stream.index) - last - 1  # a chunk lasts one tick; negative if the index is cut
    entries = stream.index_entries
    count = len(entries)
    while count > 0 and entries[count - 1].size == 0:
        count -= 1
    if count in (0, len(entries)):
        return 0
    before, last = (int(entries[len(entries) - back].timestamp) for back in (2, 1))
    return last - int(entries[count].timestamp) + last - before


def _count_chunks(file: VideoFile, track: int) -> int:
    """Return the number of chunks that the index `idx1` lists for a video track.

    It is 0 if there is no index, or if the index does not cover the whole file (OpenDML).
    """
    index = _read_index(file)
    kinds = {b"%02d" % track + kind for kind in _KINDS}
    return sum(index[at : at + 4] in kinds for at in range(0, len(index), _ENTRY_BYTES))


def _read_index(file: VideoFile) -> bytes:
    """Return the content of the chunk `idx1`; empty if there is none, or if a second RIFF list follows."""
    index = b""
    with file.open("rb") as stream:
        end = file.stat().st_size
        position = 12  # after RIFF, its size and AVI
        while position + 8 <= end:
            stream.seek(position)
            header = stream.read(8)
            size = int.from_bytes(header[4:], "little")
            if header[:4] == b"RIFF":
                return b""
            if header[:4] == b"idx1":
                index = stream.read(min(size, _MAX_INDEX_BYTES))
            position += 8 + size + size % 2
    return index
