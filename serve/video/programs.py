"""Read which streams of an MPEG transport stream belong to its first program (ISO/IEC 13818-1).

A broadcast multiplex carries several programs, each with its own video. Players start with the program that the program
association table lists first; FFmpeg instead orders streams by the arrival of their program maps.
"""

from collections.abc import Iterator

from serve.video.video_file import VideoFile

_SEARCH_BYTES = 8 * 2**20  # enough to find the tables, which are repeated at least twice a second
_SYNC, _PACKET_BYTES = 0x47, 188
_LAYOUTS = ((188, 0), (192, 4), (204, 0))  # bytes per packet and bytes before its sync byte: TS, M2TS, TS with parity
_PAT_PID, _PAT_TABLE, _PMT_TABLE = 0, 0, 2


def read_first_program(file: VideoFile) -> set[int]:
    """Return the packet identifiers (PIDs) of the streams of the first program; empty if its tables are not found."""
    with file.open("rb") as stream:
        data = stream.read(_SEARCH_BYTES)
    for section in _sections(data, _PAT_PID, _PAT_TABLE):
        entries = (section[at : at + 4] for at in range(8, len(section) - 4, 4))
        map_pids = [_pid(entry[2:]) for entry in entries if entry[:2] != b"\0\0"]  # number 0: network information table
        for program_map in _sections(data, map_pids[0], _PMT_TABLE) if map_pids else ():
            return set(_stream_pids(program_map))
    return set()


def _stream_pids(section: bytes) -> Iterator[int]:
    """Yield the PIDs of the elementary streams that a program map lists."""
    at = 12 + (int.from_bytes(section[10:12], "big") & 0x3FF)
    while at + 5 <= len(section) - 4:
        yield _pid(section[at + 1 : at + 3])
        at += 5 + (int.from_bytes(section[at + 3 : at + 5], "big") & 0x3FF)


def _sections(data: bytes, pid: int, table: int) -> Iterator[bytes]:
    """Yield the complete sections of a table, joined from the packets of a PID."""
    section = b""
    for payload, starts_section in _payloads(data, pid):
        if starts_section and payload:
            start = payload[0] + 1  # the pointer field is the number of bytes that belong to the previous section
            section = payload[start:]
        elif section:
            section += payload
        size = 3 + (int.from_bytes(section[1:3], "big") & 0xFFF) if len(section) >= 3 else 0
        if 0 < size <= len(section):
            if section[0] == table and size > 12:
                yield section[:size]
            section = b""


def _payloads(data: bytes, pid: int) -> Iterator[tuple[bytes, bool]]:
    """Yield (payload, whether a section starts in it) of each packet of a PID."""
    stride, start = _detect_layout(data)
    for at in range(start, len(data) - _PACKET_BYTES + 1, stride):
        packet = data[at : at + _PACKET_BYTES]
        if packet[0] == _SYNC and _pid(packet[1:3]) == pid and packet[3] & 0x10:
            adaptation = 1 + packet[4] if packet[3] & 0x20 else 0
            yield packet[4 + adaptation :], bool(packet[1] & 0x40)


def _detect_layout(data: bytes) -> tuple[int, int]:
    """Return the distance between sync bytes and the offset of the first one; other bytes may precede it."""
    for start in range(min(len(data), 4 * 204)):
        for stride, prefix in _LAYOUTS:
            offsets = range(start + prefix, min(len(data), start + prefix + 8 * stride), stride)
            if len(offsets) > 1 and all(data[at] == _SYNC for at in offsets):
                return stride, start + prefix
    return _PACKET_BYTES, 0


def _pid(field: bytes) -> int:
    return int.from_bytes(field[:2], "big") & 0x1FFF
