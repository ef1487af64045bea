"""Opening an upload with PyAV: allowed containers and protocols alone, and the video stream that is decoded."""

from pathlib import Path

import av
import av.logging

from serve.errors import DecodeLimitExceeded, UndecodableVideo, UnsupportedMedia
from serve.video.containers import CODECS, DEMUXERS, identify
from serve.video.limits import DecodeSettings
from serve.video.packet_index import packets
from serve.video.pictures import Matrix, check_picture, display_matrix


def open_container(path: Path) -> av.container.InputContainer:
    """Open with the allow-lists; the file's own bytes choose the demuxer, never its name.

    Raises:
        UnsupportedMedia: no container of the allow-list.
        UndecodableVideo: a container of the list, but its header is broken.
    """
    silence_library()
    demuxer = identify(path)
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        return av.open(f"file:{path}", mode="r", format=demuxer, container_options=options, metadata_errors="replace")
    except MemoryError as error:
        raise DecodeLimitExceeded("opening the video needs more memory than allowed") from error
    except (av.error.InvalidDataError, av.error.EOFError, av.error.DemuxerNotFoundError) as error:
        if demuxer is not None:
            raise UndecodableVideo("the picture's header is broken") from error
        raise UnsupportedMedia(
            "this is no video or picture in a container that is known here, or its header is broken"
        ) from error


def silence_library() -> None:
    """ffmpeg's own log callback, told to say nothing: PyAV's needs the interpreter's lock in a decoding thread.

    That deadlocks when the thread logs while the codec is being freed (PyAV 18.1, a file with flipped bits).
    """
    av.logging.restore_default_callback()
    av.logging.set_libav_level(av.logging.PANIC)


def choose_stream(container: av.container.InputContainer, settings: DecodeSettings) -> int:
    """Index of the first video stream that is not an attached picture, its codec and picture size checked."""
    attached = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if stream.disposition & attached or stream.codec_context is None:
            continue
        context = stream.codec_context
        if context.codec.canonical_name not in CODECS:
            raise UnsupportedMedia(
                f"codec {context.codec.canonical_name} is not allowed", codec=context.codec.canonical_name
            )
        check_picture(context.width, context.height, settings)
        return int(stream.index)
    if container.streams.video and container.streams.audio:
        raise UnsupportedMedia("the file holds audio and a cover picture, but no video")
    if container.streams.audio:
        raise UnsupportedMedia("the file holds audio only, no video")
    raise UnsupportedMedia("the file holds no video stream")


def track_facts(path: Path, stream_index: int) -> tuple[int, Matrix | None]:
    """How many video streams the file has, and the display matrix of the first frame of one of them."""
    with open_container(path) as container:
        num_tracks = len(container.streams.video)
        stream = container.streams[stream_index]
        for packet in packets(container, stream):
            for frame in stream.codec_context.decode(packet):
                return num_tracks, display_matrix(frame)
        for frame in stream.codec_context.decode(None):
            return num_tracks, display_matrix(frame)
    return num_tracks, None
