"""Identify the format of an upload from its content; its file name is not used.

FFmpeg follows playlists, concat scripts and image sequences to other files and hosts, and it guesses formats. So files
that are not videos or images are rejected before FFmpeg opens them, and each image format is assigned to the reader
that decodes it as image viewers do.
"""

import codecs
import re
from dataclasses import dataclass
from typing import BinaryIO

from serve.errors import UndecodableVideo, UnsupportedMedia, VideoTooShort
from serve.video import jpeg
from serve.video.boxes import MAX_INDEX_BYTES, Box, parse_brands, primary_item_type, read_top_boxes
from serve.video.video_file import VideoFile

HEAD_BYTES = 4096
SUPPORTED_FORMATS = (
    "send a video (MP4, MOV, MKV, WebM, AVI, MPEG, TS, FLV, WMV, 3GP ...), an animation (GIF, APNG, WebP, AVIF) or a "
    "picture (JPEG, PNG, WebP, AVIF, HEIC, BMP)"
)


@dataclass(frozen=True)
class FileKind:
    """The format of a file and how to read it."""

    demuxer: str | None = None  # FFmpeg's name of the required demuxer; None: FFmpeg chooses an allowed one
    is_still: bool = False  # a still image: only the first picture of the file is read
    is_pillow: bool = False  # read by Pillow, not by FFmpeg
    name: str | None = None  # name of the format, if the first bytes of the file identify it


# Groups are atomic, so that repetitions in an upload cannot cause exponential backtracking.
_COMMENTS = rb"(?>\s*<\?xml.*?\?>|\s*<!--.*?-->)*+"
_REJECTED_FORMATS = (  # pattern at the start of the file -> name of the format
    (rb"version https://git-lfs", "a Git LFS pointer instead of the file: fetch the file itself (git lfs pull)"),
    (rb"\s*#EXTM3U", "an HLS playlist, which refers to other files"),
    (rb"\s*ffconcat", "an ffconcat script, which refers to other files"),
    (rb"(?i)" + _COMMENTS + rb"(?>\s*<!doctype svg.*?>)?+" + _COMMENTS + rb"\s*<svg", "an SVG drawing"),
    (rb"(?i)" + _COMMENTS + rb"\s*<(!doctype html|html|head|body|meta)", "an HTML page"),
    (rb"(?i)\s*<\?xml|\s*<(mpd|smil)", "an XML document"),
    (rb"\s*[\[{]\s*[\"\[\]{}]", "JSON text"),
    (rb"%PDF-", "a PDF document"),
    (rb"%!PS", "a PostScript document"),
    (rb"\{\\rtf", "an RTF document"),
    (rb"PK\x03\x04.{26}\[Content_Types\]\.xml|PK\x03\x04.{26}_rels/", "an Office document (Open XML)"),
    (rb"PK\x03\x04.{26}mimetypeapplication/", "an OpenDocument or EPUB document"),
    (rb"PK\x03\x04|PK\x05\x06", "a ZIP archive"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document (OLE)"),
    (rb"\x1f\x8b", "gzip-compressed data"),
    (rb"BZh[1-9]|\xfd7zXZ\0|\x28\xb5\x2f\xfd", "compressed data"),
    (rb"7z\xbc\xaf|Rar!|.{257}ustar", "an archive"),
    (rb"\x7fELF|MZ", "a program"),
    (rb"SQLite format 3\0", "a database"),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (rb"(II\*\0|MM\0\*|II\+\0|MM\0\+)", "a TIFF picture or a camera's raw picture"),
    (rb"(FUJIFILMCCD-RAW|IIRO|IIU\0|FOVb)", "a camera's raw picture"),
    (rb"8BPS", "a Photoshop document"),
    (rb"\0\0[\x01\x02]\0[^\0]\0", "an icon"),
    (rb"v/1\x01", "an OpenEXR picture"),
    (rb"#\?(RADIANCE|RGBE)", "a Radiance HDR picture"),
    (rb"DDS \x7c", "a DirectDraw texture"),
    (rb"qoif", "a QOI picture"),
    (rb"P[1-7]\s", "a Netpbm picture"),
    (rb"gimp xcf", "a GIMP picture"),
    (rb"BPG\xfb", "a BPG picture"),
    (rb"MThd", "a MIDI file"),
)
_CONTAINERS = (  # pattern at the start of the file -> name, for the error message if FFmpeg cannot open it
    (rb"RIFF.{4}AVI ", "AVI"),
    (rb"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (rb"GIF8[79]a", "GIF"),
    (rb"OggS", "Ogg"),
    (rb"FLV\x01", "FLV"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF or WMV"),
    (rb"\0\0\x01\xba", "MPEG program stream"),
)
_BMP_HEADER_SIZES = {12, 16, 40, 52, 56, 64, 108, 124}  # of the header that follows the file header
_FIRST_BOX_TYPES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"sidx", b"moof")
_IMAGE_BRANDS = {b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1"}
_DECODABLE_ITEMS = {b"hvc1", b"hev1"}  # types of HEIF items that FFmpeg decodes to one whole image


def identify(file: VideoFile) -> FileKind:
    """Return the format of the file and how to read it.

    Raises:
        VideoTooShort: the file is empty.
        UnsupportedMedia: the file is not a video or image in a supported format.
        UndecodableVideo: the file is a video or image, but it is truncated, corrupt or encrypted.
    """
    with file.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        size = file.stat().st_size
        if not head:
            raise VideoTooShort("the file is empty (0 bytes)", num_frames=0)
        _check_format(head)
        _check_not_text_converted(head)
        if head[4:8] in _FIRST_BOX_TYPES:
            return _identify_boxes(stream, size)
        if (kind := _identify_image(head, stream, size)) is not None:
            return kind
    if _is_text(head):
        raise UnsupportedMedia(f"this is a text file; {SUPPORTED_FORMATS}")
    return FileKind(name=_match_name(_CONTAINERS, head))


def check_head(head: bytes) -> None:
    """Raise if the first bytes of a file show that it is not a video or image; used before the whole file has arrived.

    Raises:
        UnsupportedMedia: the file has an unsupported format.
        UndecodableVideo: the file was converted to text.
    """
    _check_format(head)
    _check_not_text_converted(head)
    if head[4:8] not in _FIRST_BOX_TYPES and _is_text(head):
        raise UnsupportedMedia(f"this is a text file; {SUPPORTED_FORMATS}")


def _check_format(head: bytes) -> None:
    """Raise if the first bytes are those of a rejected format."""
    if (name := _match_name(_REJECTED_FORMATS, head.removeprefix(codecs.BOM_UTF8))) is not None:
        raise UnsupportedMedia(f"this is {name}; {SUPPORTED_FORMATS}")


def _match_name(table: tuple[tuple[bytes, str], ...], head: bytes) -> str | None:
    return next((name for pattern, name in table if re.match(pattern, head, re.DOTALL)), None)


def _check_not_text_converted(head: bytes) -> None:
    """Raise if many bytes were replaced by U+FFFD, as happens when a binary file is decoded as UTF-8 text."""
    if head.count(b"\xef\xbf\xbd") > len(head) // 100 + 4:
        raise UndecodableVideo(
            "the file was converted to text, which replaced bytes with U+FFFD; send the original file as binary data"
        )


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16 if it decodes to text
        return _has_no_controls(head[: len(head) // 2 * 2], "utf-16")
    return _has_no_controls(head, "utf-8")


def _has_no_controls(head: bytes, encoding: str) -> bool:
    try:
        text = head.decode(encoding)
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # otherwise a character is split at the end of the head
            return False
        text = head[: error.start].decode(encoding)
    return not any(ord(character) < 32 and character not in "\t\r\n\f" for character in text)


# images -------------------------------------------------------------------------------------------------------------


def _identify_image(head: bytes, stream: BinaryIO, size: int) -> FileKind | None:
    """Return the kind of a JPEG, PNG, WebP or BMP file; None for any other file."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        if _is_animated_png(stream, size):
            return FileKind("apng", name="APNG")
        return FileKind("png_pipe", is_still=True, name="PNG")
    if head.startswith(b"\xff\xd8\xff"):
        return FileKind("jpeg_pipe", is_still=jpeg.is_single_image(stream), name="JPEG")
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return FileKind("bmp_pipe", is_still=True, name="BMP")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _identify_webp(head, size)
    return None


def _identify_webp(head: bytes, size: int) -> FileKind:
    full_size = int.from_bytes(head[4:8], "little") + 8
    if full_size > size:
        raise UndecodableVideo(
            f"the WebP file is truncated: it has {size} of {full_size} bytes", size_bytes=size, whole_bytes=full_size
        )
    if head[12:16] == b"VP8X" and head[20:21] and head[20] & 0x02:
        return FileKind(is_pillow=True, name="WebP")
    return FileKind("webp_pipe", is_still=True, name="WebP")


def _is_animated_png(stream: BinaryIO, size: int) -> bool:
    """Return whether an `acTL` chunk precedes the first `IDAT`, as the APNG specification requires."""
    position = 8
    while position + 8 <= size:
        stream.seek(position)
        header = stream.read(8)
        if header[4:] in (b"acTL", b"IDAT", b"IEND"):
            return header[4:] == b"acTL"
        position += 12 + int.from_bytes(header[:4], "big")
    return False


# MP4, MOV and HEIF ----------------------------------------------------------------------------------------------------


def _identify_boxes(stream: BinaryIO, size: int) -> FileKind:
    """Distinguish images from videos by the top-level boxes, and raise for files that cannot be decoded."""
    boxes, parsed_bytes = read_top_boxes(stream, size)
    first = {box.kind: box for box in reversed(boxes)}
    brands = parse_brands(_read_payload(stream, first.get(b"ftyp")))
    if b"crx " in brands:
        raise UnsupportedMedia(f"this is a camera's raw picture (CR3); {SUPPORTED_FORMATS}")
    if b"moov" in first:
        index = _read_payload(stream, first[b"moov"])
        if b"encv" in index and b"sinf" in index:
            raise UndecodableVideo(
                "the video is encrypted (Common Encryption) and cannot be decoded; send it without encryption"
            )
        return FileKind(name="MP4 or MOV")
    if b"meta" in first and brands & _IMAGE_BRANDS:
        return _identify_heif(_read_payload(stream, first[b"meta"]), brands, boxes, size)
    raise _missing_index_error(boxes, parsed_bytes, size)


def _identify_heif(meta: bytes, brands: set[bytes], boxes: list[Box], size: int) -> FileKind:
    is_avif = b"avif" in brands or b"avis" in brands
    name = "AVIF" if is_avif else "HEIC"
    if boxes[-1].stop > size:
        raise UndecodableVideo(
            f"the {name} file is truncated: it ends inside its {boxes[-1].kind.decode('latin-1')} box", size_bytes=size
        )
    if is_avif:
        return FileKind(is_still=True, is_pillow=True, name=name)
    item = primary_item_type(meta)
    if item not in _DECODABLE_ITEMS:
        content = "a grid of tiles" if item == b"grid" else f"an item of type {item.decode('latin-1')!r}"
        raise UnsupportedMedia(f"this is a HEIC picture made of {content}, which is not supported; send it as JPEG")
    return FileKind(is_still=True, name=name)


def _read_payload(stream: BinaryIO, box: Box | None) -> bytes:
    """Return the payload of a box, at most `MAX_INDEX_BYTES`; empty for None."""
    if box is None:
        return b""
    stream.seek(box.start)
    return stream.read(min(box.stop - box.start, MAX_INDEX_BYTES))


def _missing_index_error(boxes: list[Box], parsed_bytes: int, size: int) -> UndecodableVideo:
    kinds = {box.kind for box in boxes}
    if boxes and boxes[-1].stop > size:
        reason = f"the file is truncated inside its {boxes[-1].kind.decode('latin-1')} box; upload it again"
    elif b"moof" in kinds:
        reason = "this is a media segment; send it appended to its initialization segment"
    elif parsed_bytes < size:
        reason = f"the data is corrupt after {parsed_bytes} of {size} bytes"
    else:
        reason = "the recording was not finished, or the end of the file is missing"
    return UndecodableVideo(f"the MP4 index (moov) is missing: {reason}", size_bytes=size)
