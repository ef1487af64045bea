"""Open uploads with PyAV, restricted to allowed containers and protocols."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain

import av
import av.logging
from av.stream import Disposition

from serve.errors import UndecodableVideo, UnsupportedMedia
from serve.video.containers import DEMUXERS
from serve.video.identify import SUPPORTED_FORMATS, identify
from serve.video.packet_index import demux_packets
from serve.video.pictures import DisplayMatrix, read_display_matrix
from serve.video.video_file import VideoFile


@contextmanager
def open_container(file: VideoFile) -> Iterator[av.container.InputContainer]:
    """Open a file with one of the allowed demuxers; the content of the file determines which one, not its name.

    FFmpeg reads the file through Python and may use no protocol, so that no file can refer to another one.

    Raises:
        UnsupportedMedia: the container is not supported.
        UndecodableVideo: the container is allowed, but its header is corrupt.
    """
    silence_ffmpeg_log()
    kind = identify(file)
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": ""}
    with file.open("rb") as stream:
        try:
            container = av.open(
                stream, mode="r", format=kind.demuxer, container_options=options, metadata_errors="replace"
            )
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            if kind.name is not None:
                raise UndecodableVideo(f"the file starts like {kind.name}, but its header is corrupt") from error
            raise UnsupportedMedia(
                "the file is not a video or picture in a supported container, or its header is corrupt; "
                f"{SUPPORTED_FORMATS}"
            ) from error
        with container:
            yield container


def silence_ffmpeg_log() -> None:
    """Replace PyAV's log callback, which needs the GIL in decoding threads, with FFmpeg's at the level PANIC.

    PyAV's callback deadlocks if a thread logs while the codec is freed (PyAV 18.1, a file with flipped bits).
    """
    av.logging.restore_default_callback()
    av.logging.set_libav_level(av.logging.PANIC)


def read_track_info(file: VideoFile, stream_index: int) -> tuple[int, DisplayMatrix | None]:
    """Return the number of video tracks (without cover images) and the display matrix of a stream's first frame."""
    with open_container(file) as container:
        num_tracks = sum(not stream.disposition & Disposition.attached_pic for stream in container.streams.video)
        stream = container.streams[stream_index]
        for packet in chain(demux_packets(container, stream), [None]):
            with suppress(av.error.InvalidDataError, av.error.ArgumentError):  # continue until a frame can be decoded
                for frame in stream.codec_context.decode(packet):
                    return num_tracks, read_display_matrix(frame)
    return num_tracks, None
