"""Choose the video track that players show if a file has several.

Players prefer enabled tracks to disabled ones and default tracks to others; of several equal tracks, they show the
first. In a transport stream with several programs, they show the first program. Auxiliary images are not chosen instead
of the video: covers, thumbnails, alpha and depth maps, and the still image of an animation.
"""

from collections.abc import Set

import av
from av.stream import Disposition

from serve.errors import UnsupportedMedia, VideoTooShort
from serve.video.boxes import read_handler_types
from serve.video.containers import CODECS
from serve.video.ebml import read_enabled_flags
from serve.video.limits import DecodeSettings
from serve.video.pictures import check_picture
from serve.video.programs import read_first_program
from serve.video.video_file import VideoFile

MOV, MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"  # FFmpeg's names
_COVER = Disposition.attached_pic | Disposition.timed_thumbnails
_SECONDARY = Disposition.dependent | Disposition.still_image | Disposition.metadata
_OTHER_AUDIENCE = Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.comment | Disposition.dub


def choose_stream(
    container: av.container.InputContainer,
    file: VideoFile,
    settings: DecodeSettings,
    *,
    skipped: Set[int] = frozenset(),
) -> int:
    """Return the index of the video stream that players show, after checking its codec and picture size.

    The streams in `skipped` are known to have no packets.

    Raises:
        VideoTooShort: all video tracks are skipped.
        UnsupportedMedia: there is no video track, or its codec is unknown or not allowed.
        PictureTooLarge: the picture size exceeds a limit.
    """
    candidates = [stream for stream in container.streams.video if not stream.disposition & _COVER]
    if not candidates:
        raise UnsupportedMedia(_no_video_message(container))
    stream = _select_stream(candidates, container.format.name, file, skipped=skipped)
    if stream.index in skipped:
        raise VideoTooShort("the video stream has no frames", num_frames=0)
    context = stream.codec_context
    if context is None:
        raise UnsupportedMedia("the codec of the video track is unknown; convert the video, e.g. to H.264 in MP4")
    if context.codec.canonical_name not in CODECS:
        raise UnsupportedMedia(
            f"the codec {context.codec.canonical_name} is not allowed; convert the video, e.g. to H.264 in MP4",
            codec=context.codec.canonical_name,
        )
    check_picture(context.width, context.height, settings)
    return int(stream.index)


def _select_stream(
    candidates: list[av.VideoStream], container: str, file: VideoFile, *, skipped: Set[int]
) -> av.VideoStream:
    """Return the stream with the lowest rank; of several, the first."""
    if len(candidates) == 1:
        return candidates[0]
    disabled = _disabled_streams(candidates, file) if container == MATROSKA else set()
    handlers = read_handler_types(file) if container == MOV else {}
    program = read_first_program(file) if container == "mpegts" else set()
    has_tracks = any(not _is_heif_item(stream) for stream in candidates)

    def rank(stream: av.VideoStream) -> tuple[bool, ...]:
        disposition = stream.disposition
        is_item = _is_heif_item(stream)
        return (
            stream.index in skipped,
            bool(program) and stream.id not in program,
            is_item and has_tracks,  # the still image of an AVIF or HEIC animation
            not is_item and handlers.get(stream.id) == b"auxv",  # an alpha or depth map
            bool(disposition & _SECONDARY),
            stream.index in disabled,
            not disposition & Disposition.default,  # in MP4 and MOV: the track is disabled
            bool(disposition & _OTHER_AUDIENCE),
            stream.codec_context is not None and stream.codec_context.width == 0,  # declared, but has no data
        )

    return min(candidates, key=rank)


def _is_heif_item(stream: av.VideoStream) -> bool:
    """Return whether FFmpeg created the stream from a HEIF item, not from a track: it has one frame and time base 1."""
    return bool(stream.time_base == 1 and stream.frames == 1)


def _disabled_streams(candidates: list[av.VideoStream], file: VideoFile) -> set[int]:
    """Return the indices of the streams that `FlagEnabled` disables; empty if the flags cannot be assigned."""
    flags = read_enabled_flags(file)
    if len(flags) != len(candidates):
        return set()
    return {stream.index for stream, is_enabled in zip(candidates, flags, strict=True) if not is_enabled}


def _no_video_message(container: av.container.InputContainer) -> str:
    if container.streams.video:
        content = "audio and a cover picture" if container.streams.audio else "cover pictures"
        return f"the file has {content}, but no video"
    if container.streams.audio:
        return "the file has audio only, no video"
    return "the file has no video stream, or its header is corrupt"
