"""Open uploads with PyAV, restricted to allowed containers and protocols."""

from contextlib import suppress
from itertools import chain
from pathlib import Path

import av
import av.logging
from av.stream import Disposition

from serve.errors import UndecodableVideo, UnsupportedMedia
from serve.video.containers import DEMUXERS
from serve.video.identify import ALLOWED, identify
from serve.video.packet_index import packets
from serve.video.pictures import Matrix, display_matrix


def open_container(path: Path) -> av.container.InputContainer:
    """Open a file with the allow-lists; its content determines the demuxer, not its name.

    Raises:
        UnsupportedMedia: the container is not on the allow-list.
        UndecodableVideo: the container is allowed, but its header is corrupt.
    """
    silence_library()
    kind = identify(path)
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        return av.open(
            f"file:{path}", mode="r", format=kind.demuxer, container_options=options, metadata_errors="replace"
        )
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        if kind.name is not None:
            raise UndecodableVideo(f"the file starts as {kind.name}, but its header is corrupt") from error
        raise UnsupportedMedia(
            f"the file is not a video or picture in a supported container, or its header is corrupt; {ALLOWED}"
        ) from error


def silence_library() -> None:
    """Use FFmpeg's log callback at the level PANIC instead of PyAV's, which needs the GIL in decoding threads.

    PyAV's callback deadlocks if a thread logs while the codec is freed (PyAV 18.1, a file with flipped bits).
    """
    av.logging.restore_default_callback()
    av.logging.set_libav_level(av.logging.PANIC)


def track_facts(path: Path, stream_index: int) -> tuple[int, Matrix | None]:
    """Return the number of video streams without covers, and the display matrix of the first frame of one stream."""
    with open_container(path) as container:
        num_tracks = sum(not stream.disposition & Disposition.attached_pic for stream in container.streams.video)
        stream = container.streams[stream_index]
        for packet in chain(packets(container, stream), [None]):
            with suppress(av.error.InvalidDataError, av.error.ArgumentError):  # continue until a frame can be decoded
                for frame in stream.codec_context.decode(packet):
                    return num_tracks, display_matrix(frame)
    return num_tracks, None
