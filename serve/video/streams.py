"""Opening an upload with PyAV: allowed containers and protocols alone, and the facts of an opened file."""

from contextlib import suppress
from itertools import chain
from pathlib import Path

import av
import av.logging
from av.stream import Disposition

from serve.errors import DecodeLimitExceeded, UndecodableVideo, UnsupportedMedia
from serve.video.containers import DEMUXERS
from serve.video.identify import ALLOWED, identify
from serve.video.packet_index import packets
from serve.video.pictures import Matrix, display_matrix


def open_container(path: Path) -> av.container.InputContainer:
    """Open with the allow-lists; the file's own bytes choose the demuxer, never its name.

    Raises:
        UnsupportedMedia: no container of the allow-list.
        UndecodableVideo: a container of the list, but its header is broken.
    """
    silence_library()
    kind = identify(path)
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        return av.open(
            f"file:{path}", mode="r", format=kind.demuxer, container_options=options, metadata_errors="replace"
        )
    except MemoryError as error:
        raise DecodeLimitExceeded("opening the video needs more memory than allowed") from error
    except av.error.FFmpegError as error:
        if kind.name is not None:
            raise UndecodableVideo(
                f"this begins as a file of the format {kind.name}, but its header is broken"
            ) from error
        raise UnsupportedMedia(
            f"this is no video or picture in a container that is known here, or its header is broken; {ALLOWED}"
        ) from error


def silence_library() -> None:
    """ffmpeg's own log callback, told to say nothing: PyAV's needs the interpreter's lock in a decoding thread.

    That deadlocks when the thread logs while the codec is being freed (PyAV 18.1, a file with flipped bits).
    """
    av.logging.restore_default_callback()
    av.logging.set_libav_level(av.logging.PANIC)


def track_facts(path: Path, stream_index: int) -> tuple[int, Matrix | None]:
    """How many video streams the file has besides covers, and the display matrix of the first frame of one of them."""
    with open_container(path) as container:
        num_tracks = sum(not stream.disposition & Disposition.attached_pic for stream in container.streams.video)
        stream = container.streams[stream_index]
        for packet in chain(packets(container, stream), [None]):
            with suppress(av.error.InvalidDataError):  # the first frame that can be decoded will do
                for frame in stream.codec_context.decode(packet):
                    return num_tracks, display_matrix(frame)
    return num_tracks, None
