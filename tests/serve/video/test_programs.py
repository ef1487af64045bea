"""Transport streams with several programs: the video of the first program is scored, as players start with it."""

from itertools import zip_longest
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.video.decode import load_views
from serve.video.limits import DecodeSettings
from serve.video.programs import read_first_program
from tests.serve.video.conftest import view_request
from tests.synthetic_video import make_video

SETTINGS = DecodeSettings(threads=2)
PACKET_BYTES = 188
WIDTHS = {1: 64, 2: 128}  # of the programs' videos


def transport_packets(folder: Path, program: int) -> list[bytes]:
    """Packets of a stream of one program, without its program association and service tables."""
    clip = make_video(folder / f"{program}.mp4", num_frames=12, width=WIDTHS[program], height=48)
    path = folder / f"{program}.ts"
    pids = {"mpegts_pmt_start_pid": str(0x100 * program), "mpegts_start_pid": str(0x100 * program + 0x10)}
    with av.open(str(clip)) as source, av.open(str(path), "w", options=pids) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    data = path.read_bytes()
    packets = [data[at : at + PACKET_BYTES] for at in range(0, len(data), PACKET_BYTES)]
    return [packet for packet in packets if int.from_bytes(packet[1:3], "big") & 0x1FFF not in (0, 0x11)]


def association(programs: list[int]) -> bytes:
    """A packet with the program association table; program 0 stands for the network's table."""
    entries = b"".join(
        number.to_bytes(2, "big") + (0xE000 | (0x100 * number or 0x10)).to_bytes(2, "big") for number in programs
    )
    body = b"\x00\x01\xc1\x00\x00" + entries
    section = b"\x00" + (0xB000 | (len(body) + 4)).to_bytes(2, "big") + body
    return (b"\x47\x40\x00\x10\x00" + section + crc(section)).ljust(PACKET_BYTES, b"\xff")


def crc(data: bytes) -> bytes:
    """CRC-32/MPEG-2."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = ((value << 1) ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
    return value.to_bytes(4, "big")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[bytes]]:
    folder = tmp_path_factory.mktemp("programs")
    return {program: transport_packets(folder, program) for program in WIDTHS}


@pytest.mark.parametrize("suffix", ["ts", "m2ts"])
@pytest.mark.parametrize("arrival", [(1, 2), (2, 1)])
@pytest.mark.parametrize("table", [[1, 2], [2, 1], [0, 2, 1]])
def test_the_first_program_is_scored_whatever_arrives_first(
    programs: dict[int, list[bytes]], arrival: tuple[int, int], table: list[int], suffix: str, tmp_path: Path
) -> None:
    mixed = [packet for pair in zip_longest(*(programs[number] for number in arrival)) for packet in pair if packet]
    prefix = bytes(4) if suffix == "m2ts" else b""
    path = tmp_path / f"programs.{suffix}"
    path.write_bytes(b"".join(prefix + packet for packet in [association(table), *mixed]))
    first = next(number for number in table if number)
    found = load_views(path, view_request(), settings=SETTINGS).metadata
    assert (found.width, found.num_frames) == (WIDTHS[first], 12)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=600), body=st.binary(max_size=60))
def test_no_bytes_break_the_reader_of_programs(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, body: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "programs.ts"
    packet = (b"\x47\x40\x00\x10\x00\x00\xb0\x0d" + body).ljust(PACKET_BYTES, b"\xff")[:PACKET_BYTES]
    for content in (data, packet * 9 + data, data + packet * 9):
        path.write_bytes(content)
        assert isinstance(read_first_program(path), set)
