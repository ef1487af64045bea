"""Read which streams of an MPEG transport stream belong to its first program (ISO/IEC 13818-1).

A broadcast multiplex carries several programs, each with video of its own. Players start with the program that its
program association table lists first; FFmpeg orders streams by the arrival of their program maps instead.
"""

from collections.abc import Iterator
from pathlib import Path

_SEARCHED_BYTES = 8 * 2**20  # tables are repeated at least twice a second
_SYNC, _PACKET_BYTES = 0x47, 188
_STRIDES = ((188, 0), (192, 4), (204, 0))  # bytes from packet to packet, bytes before the first: TS, M2TS, with parity
_PAT_PID, _PAT_TABLE, _PMT_TABLE = 0, 0, 2


def first_program(path: Path) -> set[int]:
    """Return the PIDs of the streams of the first program; an empty set if its tables are not found."""
    with path.open("rb") as stream:
        data = stream.read(_SEARCHED_BYTES)
    for section in _sections(data, _PAT_PID, _PAT_TABLE):
        entries = (section[at : at + 4] for at in range(8, len(section) - 4, 4))
        maps = [_pid(entry[2:]) for entry in entries if entry[:2] != b"\0\0"]  # program 0 is the network's table
        for program_map in _sections(data, maps[0], _PMT_TABLE) if maps else ():
            return set(_elementary(program_map))
    return set()


def _elementary(section: bytes) -> Iterator[int]:
    """Yield the PIDs of the streams that a program map lists."""
    at = 12 + (int.from_bytes(section[10:12], "big") & 0x3FF)
    while at + 5 <= len(section) - 4:
        yield _pid(section[at + 1 : at + 3])
        at += 5 + (int.from_bytes(section[at + 3 : at + 5], "big") & 0x3FF)


def _sections(data: bytes, pid: int, table: int) -> Iterator[bytes]:
    """Yield the complete sections of a table, joined from the packets of a PID."""
    held = b""
    for payload, begins in _payloads(data, pid):
        if begins and payload:
            start = payload[0] + 1  # the pointer field counts the rest of the section before
            held = payload[start:]
        elif held:
            held += payload
        size = 3 + (int.from_bytes(held[1:3], "big") & 0xFFF) if len(held) >= 3 else 0
        if 0 < size <= len(held):
            if held[0] == table and size > 12:
                yield held[:size]
            held = b""


def _payloads(data: bytes, pid: int) -> Iterator[tuple[bytes, bool]]:
    """Yield the payload of each packet of a PID, and whether a section begins in it."""
    stride, start = _layout(data)
    for at in range(start, len(data) - _PACKET_BYTES + 1, stride):
        packet = data[at : at + _PACKET_BYTES]
        if packet[0] == _SYNC and _pid(packet[1:3]) == pid and packet[3] & 0x10:
            adaptation = 1 + packet[4] if packet[3] & 0x20 else 0
            yield packet[4 + adaptation :], bool(packet[1] & 0x40)


def _layout(data: bytes) -> tuple[int, int]:
    """Return the distance between packets and the place of the first, which may follow other bytes."""
    for start in range(min(len(data), 4 * 204)):
        for stride, before in _STRIDES:
            places = range(start + before, min(len(data), start + before + 8 * stride), stride)
            if len(places) > 1 and all(data[at] == _SYNC for at in places):
                return stride, start + before
    return _PACKET_BYTES, 0


def _pid(field: bytes) -> int:
    return int.from_bytes(field[:2], "big") & 0x1FFF
