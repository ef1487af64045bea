"""Small HEIC and AVIF stills, written box by box (ISO/IEC 23008-12), because no library here writes them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from serve.arrays import UInt8Array
from tests.scheduling import ordinary_priority

_CODECS = {"hvc1": ("libx265", b"hvcC", b"heic"), "av01": ("libsvtav1", b"av1C", b"avif")}
_PICTURE, _GRID = 1, 100  # item ids: pictures count from the first


def make_heif(
    path: Path, tiles: list[UInt8Array], *, codec: str = "hvc1", columns: int = 0, transforms: tuple[bytes, ...] = ()
) -> Path:
    """A still of one picture, or with `columns` a grid of tiles; `transforms` are whole `irot` and `imir` boxes."""
    encoder, configuration, brand = _CODECS[codec]
    coded = [_encode(tile, encoder, path.with_suffix(".mp4")) for tile in tiles]
    height, width = tiles[0].shape[:2]
    payloads = [data for _, data in coded]
    items = [(_PICTURE + index, codec.encode()) for index in range(len(tiles))]
    properties = [_box(configuration, coded[0][0]), _size(width, height), *transforms]
    shared, turned = [1, 2], [3 + index for index in range(len(transforms))]
    associations = {item: shared + (turned if not columns else []) for item, _ in items}
    references = b""
    if columns:
        rows = len(tiles) // columns
        whole = (width * columns, height * rows)
        items.append((_GRID, b"grid"))
        payloads.append(bytes((0, 0, rows - 1, columns - 1)) + b"".join(side.to_bytes(2, "big") for side in whole))
        properties.append(_size(*whole))
        associations[_GRID] = [len(properties), *turned]
        ids = b"".join(item.to_bytes(2, "big") for item, _ in items[:-1])
        references = _full(b"iref", _box(b"dimg", _GRID.to_bytes(2, "big") + len(tiles).to_bytes(2, "big") + ids))
    primary = _GRID if columns else _PICTURE

    def meta(data_start: int) -> bytes:
        return _full(
            b"meta",
            _full(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + _full(b"pitm", primary.to_bytes(2, "big"))
            + _locations([item for item, _ in items], payloads, data_start)
            + _full(b"iinf", len(items).to_bytes(2, "big") + b"".join(_item(*item) for item in items))
            + references
            + _box(b"iprp", _box(b"ipco", b"".join(properties)) + _associations(associations)),
        )

    kind = _box(b"ftyp", brand + bytes(4) + b"mif1" + brand)
    data_start = len(kind) + len(meta(0)) + 8
    path.write_bytes(kind + meta(data_start) + _box(b"mdat", b"".join(payloads)))
    return path


def rotation(quarter_turns: int) -> bytes:
    """An `irot` box: anticlockwise."""
    return _box(b"irot", bytes((quarter_turns,)))


def mirror(axis: int) -> bytes:
    """An `imir` box: 0 exchanges top and bottom, 1 left and right."""
    return _box(b"imir", bytes((axis,)))


def _encode(picture: UInt8Array, encoder: str, path: Path) -> tuple[bytes, bytes]:
    """(decoder configuration, data of one intra picture), as MP4 stores them."""
    with ordinary_priority(), av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=25)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.options = {"crf": "10", "x265-params": "log-level=none:bframes=0"}
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        data = b"".join(bytes(packet) for packet in container.demux(stream) if packet.size)
        configuration = bytes(stream.codec_context.extradata)
    path.unlink()
    return configuration, data


def _box(kind: bytes, payload: bytes) -> bytes:
    return (8 + len(payload)).to_bytes(4, "big") + kind + payload


def _full(kind: bytes, payload: bytes, *, version: int = 0) -> bytes:
    return _box(kind, bytes((version, 0, 0, 0)) + payload)


def _size(width: int, height: int) -> bytes:
    return _full(b"ispe", width.to_bytes(4, "big") + height.to_bytes(4, "big"))


def _item(item: int, kind: bytes) -> bytes:
    return _full(b"infe", item.to_bytes(2, "big") + bytes(2) + kind + b"\0", version=2)


def _locations(items: list[int], payloads: list[bytes], start: int) -> bytes:
    body = b"\x44\x00" + len(items).to_bytes(2, "big")  # offsets and lengths of 4 bytes, no base offset
    for item, payload in zip(items, payloads, strict=True):
        body += item.to_bytes(2, "big") + bytes(2) + (1).to_bytes(2, "big")
        body += start.to_bytes(4, "big") + len(payload).to_bytes(4, "big")
        start += len(payload)
    return _full(b"iloc", body)


def _associations(associations: dict[int, list[int]]) -> bytes:
    body = len(associations).to_bytes(4, "big")
    for item, properties in associations.items():
        body += item.to_bytes(2, "big") + bytes((len(properties), *(0x80 | index for index in properties)))
    return _full(b"ipma", body)


def quadrants(height: int = 128, width: int = 128) -> UInt8Array:
    """Four quarters of different brightness: every orientation looks different."""
    picture = np.empty((height, width, 3), np.uint8)
    for index, level in enumerate((30, 90, 160, 230)):
        row, column = divmod(index, 2)
        picture[row * height // 2 : (row + 1) * height // 2, column * width // 2 : (column + 1) * width // 2] = level
    return picture
