"""Animated pictures: every frame, composited, at its own time; APNG and AVIF by FFmpeg, WebP by Pillow."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from serve.arrays import UInt8Array
from serve.errors import PictureTooLarge, UndecodableVideo, UnsupportedMedia, VideoTooLong
from serve.video.decode import frames_at, load_views, open_video
from serve.video.limits import DecodeSettings
from tests import synthetic_video as made
from tests.apng_reference import apng_frames
from tests.serve.video.conftest import view_request
from tests.shared_data import FIELD, needs_shared

SETTINGS = DecodeSettings(threads=2)
REQUEST = view_request()
SUFFIXES = ["png", "webp", "avif", "gif"]


@needs_shared
@pytest.mark.parametrize("name", ["anim.png", "anim.webp"])
def test_all_frames_of_an_animation_are_shown(name: str) -> None:
    found = load_views(FIELD / name, REQUEST, settings=SETTINGS)
    assert found.metadata.num_frames == 25
    assert found.metadata.duration_seconds == pytest.approx(1.0)
    assert found.metadata.fps == pytest.approx(25.0)
    frames = frames_at(FIELD / name, np.arange(25), settings=SETTINGS)
    assert all(np.any(one != other) for one, other in itertools.pairwise(frames))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_uneven_delays_are_the_times_of_the_frames(tmp_path: Path, suffix: str) -> None:
    path = made.make_animation(tmp_path / f"uneven.{suffix}")
    found = load_views(path, REQUEST, settings=SETTINGS)
    times = np.concatenate([[0], np.cumsum(made.DELAYS_MS)]) / 1000
    assert found.metadata.num_frames == 8
    np.testing.assert_allclose(found.pts_seconds[0], times[:-1], atol=1e-6)
    assert found.metadata.duration_seconds == pytest.approx(times[-1])
    assert [made.index_of(frame) for frame in found.views[0]] == list(range(8))


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_a_frame_without_a_delay_takes_time(tmp_path: Path, suffix: str) -> None:
    path = made.make_animation(tmp_path / f"hurried.{suffix}", delays_ms=[0] * 8)
    found = load_views(path, REQUEST, settings=SETTINGS)
    assert np.all(np.diff(found.pts_seconds[0]) > 0)
    assert found.metadata.duration_seconds > 0


def _moving_square() -> list[UInt8Array]:
    """Frames of which only a part changes, so that the encoder stores the part."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    frames = []
    for index in range(6):
        frame = noise.copy()
        frame[10:22, 8 * index : 8 * index + 12] = made.level(index)
        frames.append(frame)
    return frames


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("webp", {"lossless": True}),
        ("webp", {"lossless": True, "minimize_size": True}),
        ("webp", {"lossless": True, "kmin": 1, "kmax": 2}),
        ("png", {}),
        ("png", {"disposal": PngImagePlugin.Disposal.OP_NONE, "blend": PngImagePlugin.Blend.OP_OVER}),
    ],
)
def test_partial_frames_are_composited(tmp_path: Path, suffix: str, options: dict[str, object]) -> None:
    expected = _moving_square()
    path = tmp_path / f"square.{suffix}"
    first, *others = (Image.fromarray(frame) for frame in expected)
    first.save(path, save_all=True, append_images=others, duration=50, **options)
    np.testing.assert_array_equal(frames_at(path, np.arange(6), settings=SETTINGS), expected)


@pytest.mark.parametrize("alpha", [255, 128])
@pytest.mark.parametrize("blend", list(PngImagePlugin.Blend), ids=lambda value: value.name)
@pytest.mark.parametrize("disposal", list(PngImagePlugin.Disposal), ids=lambda value: value.name)
def test_transparent_frames_of_a_png_are_composited_by_the_specification(
    tmp_path: Path, disposal: PngImagePlugin.Disposal, blend: PngImagePlugin.Blend, alpha: int
) -> None:
    frames = [Image.new("RGBA", (64, 48), (200, 30, 30, 255))]
    for index in range(1, 5):
        frame = Image.new("RGBA", (64, 48), (0, 0, 0, 0))
        frame.paste((20, 40 * index, 120, alpha), (10 * index, 8, 10 * index + 13, 30))
        frames.append(frame)
    path = tmp_path / "blended.png"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, disposal=disposal, blend=blend)
    expected = np.stack(apng_frames(path))
    found = frames_at(path, np.arange(len(expected)), settings=SETTINGS)
    # FFmpeg rounds alpha and colour to bytes after each of the four blends, by half a level each.
    np.testing.assert_allclose(found.astype(int), expected, rtol=0, atol=0 if alpha == 255 else 4)


@needs_shared
def test_a_real_animated_png_is_composited_by_the_specification() -> None:
    expected = apng_frames(FIELD / "anim.png")
    np.testing.assert_array_equal(frames_at(FIELD / "anim.png", np.arange(25), settings=SETTINGS), expected)


def test_a_default_picture_outside_the_animation_is_not_shown(tmp_path: Path) -> None:
    cover = Image.fromarray(made.picture(20, width=64, height=48))
    others = [Image.fromarray(made.picture(index, width=64, height=48)) for index in range(3)]
    path = tmp_path / "cover.png"
    cover.save(path, save_all=True, append_images=others, duration=50, default_image=True)
    found = load_views(path, REQUEST, settings=SETTINGS)
    assert found.metadata.num_frames == 3
    assert {made.index_of(frame) for frame in found.views[0]} == {0, 1, 2}


def test_the_alpha_track_of_an_avif_animation_is_not_shown(tmp_path: Path) -> None:
    frames = []
    for index in range(8):
        frame = Image.fromarray(made.picture(index, width=64, height=48)).convert("RGBA")
        frame.putalpha(255 - index)
        frames.append(frame)
    path = tmp_path / "alpha.avif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40)
    found = load_views(path, REQUEST, settings=SETTINGS)
    assert found.metadata.num_frames == 8
    assert [made.index_of(frame) for frame in found.views[0]] == list(range(8))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_decord_refuses_animations(tmp_path: Path, suffix: str) -> None:
    path = made.make_animation(tmp_path / f"clip.{suffix}")
    with pytest.raises((UndecodableVideo, UnsupportedMedia), match="pyav decoder"):
        load_views(path, REQUEST, settings=DecodeSettings(decoder="decord"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_limits_hold_for_animations(tmp_path: Path, suffix: str) -> None:
    path = made.make_animation(tmp_path / f"clip.{suffix}")
    limits = {"max_frames": 7}, {"max_duration_seconds": 1.0}, {"max_picture_pixels": 64 * 48 - 1}
    for limit, error in zip(limits, (VideoTooLong, VideoTooLong, PictureTooLarge), strict=True):
        with pytest.raises(error):
            load_views(path, REQUEST, settings=DecodeSettings.model_validate(limit))


def test_a_large_webp_canvas_is_refused_by_its_header(tmp_path: Path) -> None:
    data = bytearray(made.make_animation(tmp_path / "clip.webp").read_bytes())
    data[24:30] = (16382).to_bytes(3, "little") * 2
    (tmp_path / "clip.webp").write_bytes(data)
    with pytest.raises(PictureTooLarge, match="16383x16383"):
        open_video(tmp_path / "clip.webp", SETTINGS)


@pytest.mark.parametrize("suffix", ["webp", "avif"])
def test_a_cut_picture_says_so(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(_moving_square()[0]).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(UndecodableVideo, match="is truncated"):
        open_video(path, SETTINGS)


def test_an_animation_whose_data_breaks_shows_the_frames_before(tmp_path: Path) -> None:
    frames = [Image.fromarray(frame) for frame in _moving_square()]
    path = tmp_path / "broken.webp"
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=50, lossless=True, kmax=0, minimize_size=True
    )
    data = bytearray(path.read_bytes())
    last = data.rindex(b"ANMF")
    data[last + 36 : last + 60] = bytes(24)
    path.write_bytes(data)
    found = load_views(path, REQUEST, settings=SETTINGS)
    assert found.metadata.num_frames == 5
    assert found.frame_indices.max() == 4
