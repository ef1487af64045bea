"""What kind of file an upload is, by its first bytes, and the containers and codecs that are decoded.

ffmpeg follows playlists, concat scripts and picture sequences to other files and hosts, so only the demuxers named here
may open an upload. What is no video is named in words before ffmpeg sees it.
"""

import os
import re
from pathlib import Path
from typing import BinaryIO, NoReturn

from serve.errors import UndecodableVideo, UnsupportedMedia, VideoTooShort

# Demuxers that read one file and nothing else. Audio-only ones are here so that the answer says "audio only".
DEMUXERS = (
    "3g2,3gp,aac,aiff,apng,asf,avi,bmp_pipe,dv,flac,flv,gif,h264,hevc,ivf,jpeg_pipe,m4a,m4v,matroska,mj2,mov,mp3,mp4,mpeg,mpegts,"
    "mpegvideo,mxf,nut,obu,ogg,png_pipe,rm,wav,webm,webp_pipe"
)
# fmt: off
CODECS = frozenset({
    "apng", "av1", "bmp", "cinepak", "dnxhd", "dvvideo", "ffv1", "flashsv", "flashsv2", "flv1", "gif", "h261",
    "h263", "h263i", "h264", "hevc", "huffyuv", "ffvhuff", "indeo3", "indeo5", "jpeg2000", "mjpeg", "mpeg1video",
    "mpeg2video", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "msvideo1", "png", "prores", "qtrle", "rawvideo",
    "rv30", "rv40", "svq1", "svq3", "theora", "utvideo", "v210", "vc1", "vp6", "vp6f", "vp8", "vp9", "webp", "wmv1",
    "wmv2", "wmv3",
})
# fmt: on
# Containers whose presentation times give the order of the frames.
TRUSTED_TIMES = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "gif"})
# Containers whose times may wrap, jump or be missing: the bitstream gives the order, and the times must agree with it.
# AVI and raw streams store no presentation times at all.
WRITTEN_TIMES = frozenset({"mpegts", "mpeg", "flv", "live_flv", "ivf", "nut", "asf", "ogg"})
PICTURES = {b"\x89PNG\r\n\x1a\n": "png_pipe", b"\xff\xd8\xff": "jpeg_pipe", b"BM": "bmp_pipe"}
HEAD_BYTES = 4096
_NOT_VIDEO = (  # pattern at the start -> what it is
    (
        rb"version https://git-lfs",
        "this is a Git LFS pointer, not the video: fetch the file itself (git lfs pull) and send that",
    ),
    (rb"\s*#EXTM3U", "this is an HLS playlist, which names other files; send the video itself"),
    (rb"\s*ffconcat", "this is an ffconcat script, which names other files; send the video itself"),
    (rb"(?i)\s*<(!doctype html|html|head|body)", "this is an HTML page, not a video"),
    (rb"(?i)\s*<\?xml|\s*<(mpd|smil|svg)", "this is an XML document, not a video"),
    (rb"\s*[\[{]\s*[\"\[\]{}]", "this is JSON text, not a video"),
    (rb"%PDF-", "this is a PDF document, not a video"),
    (rb"PK\x03\x04|PK\x05\x06", "this is a ZIP archive, not a video"),
    (rb"\x1f\x8b", "this is gzip-compressed data, not a video"),
    (rb"7z\xbc\xaf|Rar!", "this is an archive, not a video"),
    (rb"\x7fELF|MZ", "this is a program, not a video"),
)
_BOX = re.compile(rb"[ -~\xa9]{4}")


def identify(path: Path) -> str | None:
    """The demuxer to force, or None where ffmpeg may choose among `DEMUXERS`.

    Raises:
        VideoTooShort: the file is empty.
        UnsupportedMedia: it is something else than a video or picture.
        UndecodableVideo: it was a video, but is cut or mangled beyond use.
    """
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        if not head:
            raise VideoTooShort("the file holds 0 bytes", num_frames=0)
        for pattern, message in _NOT_VIDEO:
            if re.match(pattern, head):
                raise UnsupportedMedia(message)
        if head.count(b"\xef\xbf\xbd") > len(head) // 100 + 4:
            raise UndecodableVideo(
                "the file was read as text and written back, its bytes replaced by U+FFFD and lost; send it as binary"
            )
        for magic, demuxer in PICTURES.items():
            if head.startswith(magic):
                return demuxer
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return "webp_pipe"
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
            _check_boxes(stream, os.fstat(stream.fileno()).st_size)
        elif _is_text(head):
            raise UnsupportedMedia("this is a text file, not a video")
    return None


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not any(ord(character) < 32 and character not in "\t\r\n\f" for character in text)


def _check_boxes(stream: BinaryIO, size: int) -> None:
    """Walk the top boxes of an MP4: refuse a missing index and encrypted video, naming them."""
    boxes = dict(_boxes(stream, 0, size))
    if b"moov" not in boxes:
        _refuse_without_index(boxes, size)
    start, stop = boxes[b"moov"]
    stream.seek(start)
    index = stream.read(min(stop - start, 64 * 2**20))
    if b"encv" in index and b"sinf" in index:
        raise UndecodableVideo("the video is encrypted (Common Encryption), and there is no key to decode it")


def _refuse_without_index(boxes: dict[bytes, tuple[int, int]], size: int) -> NoReturn:
    cut = any(stop > size for _, stop in boxes.values())
    raise UndecodableVideo(
        "the MP4 index (moov) is missing: "
        + ("the upload was cut" if cut else "the file was never finished, or was cut"),
        size_bytes=size,
    )


def _boxes(stream: BinaryIO, start: int, size: int) -> list[tuple[bytes, tuple[int, int]]]:
    """(type, (start, stop)) of the boxes, in order; `stop` may lie beyond the file's end."""
    found: list[tuple[bytes, tuple[int, int]]] = []
    while start + 8 <= size and len(found) < 100_000:
        stream.seek(start)
        header = stream.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:
            length = size - start
        if length < 8 or not _BOX.fullmatch(kind):
            break
        found.append((kind, (start, start + length)))
        start += length
    return found
