"""The video track that players show, where a file has several.

Players show an enabled track before disabled ones, a default track before others, and the first of those. Pictures that
accompany the video are never shown in its place: covers, thumbnails, alpha and depth maps, the still of an animation.
"""

from pathlib import Path

import av
from av.stream import Disposition

from serve.errors import UnsupportedMedia
from serve.video.boxes import handlers
from serve.video.containers import CODECS
from serve.video.ebml import enabled_video_tracks
from serve.video.limits import DecodeSettings
from serve.video.pictures import check_picture

MOV, MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"  # FFmpeg's names
_COVER = Disposition.attached_pic | Disposition.timed_thumbnails
_SECONDARY = Disposition.dependent | Disposition.still_image | Disposition.metadata
_OTHER_AUDIENCE = Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.comment | Disposition.dub


def choose_stream(container: av.container.InputContainer, path: Path, settings: DecodeSettings) -> int:
    """Index of the video stream that players show, its codec and picture size checked.

    Raises:
        UnsupportedMedia: there is no video, or its codec is not allowed.
        PictureTooLarge: its pictures pass a limit.
    """
    candidates = [stream for stream in container.streams.video if not stream.disposition & _COVER]
    if not candidates:
        raise UnsupportedMedia(_nothing_to_show(container))
    stream = _shown(candidates, container.format.name, path)
    context = stream.codec_context
    if context is None:
        raise UnsupportedMedia("the codec of the video track is not known here")
    if context.codec.canonical_name not in CODECS:
        raise UnsupportedMedia(
            f"codec {context.codec.canonical_name} is not allowed", codec=context.codec.canonical_name
        )
    check_picture(context.width, context.height, settings)
    return int(stream.index)


def _shown(candidates: list[av.VideoStream], container: str, path: Path) -> av.VideoStream:
    """The stream of lowest rank; of equals the first."""
    if len(candidates) == 1:
        return candidates[0]
    disabled = _disabled(candidates, path) if container == MATROSKA else set()
    kinds = handlers(path) if container == MOV else {}
    has_tracks = any(not _is_item(stream) for stream in candidates)

    def rank(stream: av.VideoStream) -> tuple[bool, ...]:
        disposition = stream.disposition
        is_item = _is_item(stream)
        return (
            is_item and has_tracks,  # the still of an AVIF or HEIC animation
            not is_item and kinds.get(stream.id) == b"auxv",  # an alpha or depth map
            bool(disposition & _SECONDARY),
            stream.index in disabled,
            not disposition & Disposition.default,  # in MP4 and MOV: the track is disabled
            bool(disposition & _OTHER_AUDIENCE),
            stream.codec_context is not None and stream.codec_context.width == 0,  # announced, but without data
        )

    return min(candidates, key=rank)


def _is_item(stream: av.VideoStream) -> bool:
    """Whether FFmpeg made the stream from a HEIF item instead of a track: one frame of one second."""
    return bool(stream.time_base == 1 and stream.frames == 1)


def _disabled(candidates: list[av.VideoStream], path: Path) -> set[int]:
    """Indices of the streams that `FlagEnabled` switches off."""
    flags = enabled_video_tracks(path)
    if len(flags) != len(candidates):
        return set()
    return {stream.index for stream, is_enabled in zip(candidates, flags, strict=True) if not is_enabled}


def _nothing_to_show(container: av.container.InputContainer) -> str:
    if container.streams.video:
        holds = "audio and a cover picture" if container.streams.audio else "cover pictures"
        return f"the file holds {holds}, but no video"
    if container.streams.audio:
        return "the file holds audio only, no video"
    return "the file holds no video stream, or its header is broken"
