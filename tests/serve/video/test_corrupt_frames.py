"""Damage that the decoder finds is counted among the sampled frames, and refused past the allowed share."""

from pathlib import Path

import av
import numpy as np
import pytest

from serve.errors import UndecodableVideo
from serve.video.decode import frames_at, load_views, open_video, read_frames
from serve.video.decoder import DamagedError, Decoder
from serve.video.limits import DecodeSettings
from serve.video.streams import open_container
from tests.fuzz.muxing import add_copy
from tests.fuzz.sources import ENCODES, encode
from tests.serve.video.conftest import view_request
from tests.synthetic_video import make_video

NUM_FRAMES = 48


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A clip of four groups of pictures whose third has overwritten slices; sizes and headers are as before."""
    noise = np.random.default_rng(7)
    pictures = (noise.integers(0, 256, (96, 128, 3), dtype=np.uint8) for _ in range(NUM_FRAMES))
    path = make_video(
        tmp_path / "clip.mp4", num_frames=NUM_FRAMES, width=128, height=96, gop=12, b_frames=0, frames=pictures
    )
    data = bytearray(path.read_bytes())
    begin, end = data.index(b"mdat"), data.rindex(b"moov")
    at = begin + (end - begin) * 5 // 8
    data[at : at + 900] = bytes(noise.integers(0, 256, 900, dtype=np.uint8))
    path.write_bytes(data)
    return path


def test_whole_clips_have_no_corrupt_frame(good_clip: Path) -> None:
    assert load_views(good_clip, view_request(), settings=DecodeSettings(threads=2)).metadata.num_corrupt_frames == 0


def test_sampled_frames_that_stand_on_an_error_are_counted(damaged: Path) -> None:
    found = load_views(damaged, view_request(), settings=DecodeSettings(threads=2))
    # 2 of the 8 segment centres lie in the damaged group of pictures; the first may lie before the damage
    assert 1 <= found.metadata.num_corrupt_frames <= 2


def test_too_many_corrupt_frames_are_an_error(damaged: Path) -> None:
    with pytest.raises(UndecodableVideo, match="sampled frames are corrupt"):
        load_views(damaged, view_request(), settings=DecodeSettings(threads=2, max_corrupt_share=0.0))


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_an_av1_stream_that_begins_between_key_frames_is_read_from_the_next_one(container: str, tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.webm", ENCODES["av1"], seed=3)
    cut = tmp_path / f"cut.{container}"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as output:
        stream = add_copy(output, source.streams.video[0])
        for number, packet in enumerate(source.demux(source.streams.video[0])):
            if number >= 3 and packet.size:  # nothing can be decoded until the key frame at 16
                packet.stream = stream
                output.mux(packet)
    settings = DecodeSettings(threads=2)
    reading = read_frames(open_video(cut, settings), np.arange, transform=np.copy, settings=settings)
    expected = frames_at(whole, np.arange(16, 48), settings=settings)
    found = [reading.values[index] for index in range(reading.timeline.num_frames)]
    assert len(found) >= len(expected)
    np.testing.assert_array_equal(np.stack(found[-len(expected) :]), expected)


@pytest.mark.parametrize("error", [av.error.InvalidDataError, av.error.ArgumentError, av.error.PatchWelcomeError])
def test_any_error_of_a_decoder_is_damage_of_one_packet(
    error: type[Exception], good_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        """A codec context that accepts no packet."""

        width, height, skip_frame = 64, 48, "DEFAULT"

        def decode(self, _: object) -> None:
            raise error(22, "seen from dav1d")

    index = open_video(good_clip, DecodeSettings()).index  # type: ignore[union-attr]
    for is_strict in (True, False):
        with open_container(good_clip) as container:
            stream = container.streams.video[0]
            decoder = Decoder(stream, index, DecodeSettings(), is_strict=is_strict)
            packet = next(container.demux(stream))
            monkeypatch.setattr(decoder, "_context", Refusing())
            if is_strict:
                with pytest.raises(DamagedError):
                    decoder.decode(packet, 0)
            else:
                assert decoder.decode(packet, 0) == []
                assert decoder.num_broken == 1
