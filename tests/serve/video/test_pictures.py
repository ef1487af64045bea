"""Still pictures and display matrices: each frame comes out as players and viewers show it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from serve.errors import UndecodableVideo, UnsupportedMedia
from serve.video.decode import frames_at, load_views
from serve.video.limits import DecodeSettings
from serve.video.pictures import apply_display_matrix, is_quarter_turn
from tests import synthetic_video as made
from tests.serve.video.conftest import view_request
from tests.serve.video.independent import ffmpeg_frames
from tests.shared_data import FIELD, needs_shared
from tests.synthetic_heif import make_heif, mirror, quadrants, rotation

PYAV, DECORD = DecodeSettings(threads=2), DecodeSettings(threads=2, decoder="decord")
FIRST = np.array([0])
# Mean over the picture, of 255: what two JPEG, WebP or AV1 decoders may differ by at the edges of the bright block,
# where each interpolates chroma in its own way. Any wrong orientation differs by more than 30.
DECODER_DIFFERENCE = 2.0


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Mean absolute difference of two pictures of the same size."""
    assert found.shape == expected.shape
    return float(np.abs(found.astype(int) - expected).mean())


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_and_mirrored_by_its_exif(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = made.make_oriented_picture(tmp_path / f"picture.{suffix}", orientation)
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    assert difference(frames_at(path, FIRST, settings=PYAV)[0], expected) < DECODER_DIFFERENCE


# irot turns anticlockwise, imir mirrors; they apply in the order of the file.
TRANSFORMS = {
    "none": ((), lambda picture: picture),
    "irot-1": ((rotation(1),), lambda picture: np.rot90(picture, 1)),
    "irot-2": ((rotation(2),), lambda picture: np.rot90(picture, 2)),
    "irot-3": ((rotation(3),), lambda picture: np.rot90(picture, 3)),
    "imir-0": ((mirror(0),), lambda picture: picture[::-1]),
    "imir-1": ((mirror(1),), lambda picture: picture[:, ::-1]),
    "irot-1-imir-0": ((rotation(1), mirror(0)), lambda picture: np.rot90(picture, 1)[::-1]),
    "irot-3-imir-0": ((rotation(3), mirror(0)), lambda picture: np.rot90(picture, 3)[::-1]),
}


@pytest.mark.parametrize("codec", ["hvc1", "av01"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_heic_and_avif_stills_are_turned_by_their_properties(tmp_path: Path, codec: str, name: str) -> None:
    transforms, turn = TRANSFORMS[name]
    picture = quadrants(height=128, width=192)
    path = make_heif(tmp_path / "still.heif", [picture], codec=codec, transforms=transforms)
    found = load_views(path, view_request(), settings=PYAV).metadata
    assert (found.num_frames, found.fps, found.duration_seconds) == (1, 0.0, 0.0)
    assert difference(frames_at(path, FIRST, settings=PYAV)[0], turn(picture)) < DECODER_DIFFERENCE


def test_a_grid_of_avif_tiles_is_one_picture(tmp_path: Path) -> None:
    whole = quadrants()
    tiles = [whole[:64, :64], whole[:64, 64:], whole[64:, :64], whole[64:, 64:]]
    path = make_heif(tmp_path / "grid.avif", tiles, codec="av01", columns=2, transforms=(rotation(1),))
    assert difference(frames_at(path, FIRST, settings=PYAV)[0], np.rot90(whole, 1)) < DECODER_DIFFERENCE


def test_a_grid_of_heic_tiles_is_refused_for_what_it_is(tmp_path: Path) -> None:
    path = make_heif(tmp_path / "grid.heic", [quadrants()] * 4, columns=2)
    with pytest.raises(UnsupportedMedia, match=r"grid of tiles.*send it as JPEG"):
        load_views(path, view_request(), settings=PYAV)


def test_the_eight_orientations_differ() -> None:
    shown = [np.rot90(made.corner_picture(), turns) for turns in range(4)]
    shown += [picture[:, ::-1] for picture in shown]
    for i, one in enumerate(shown):
        for other in shown[:i]:
            assert one.shape != other.shape or difference(one, other) > 30


@needs_shared
def test_a_photograph_of_a_camera_held_upright(tmp_path: Path) -> None:
    found = load_views(FIELD / "exif6.jpg", view_request(), settings=PYAV)
    assert (found.metadata.width, found.metadata.height) == (240, 320)


@pytest.mark.parametrize("settings", [PYAV, DECORD], ids=["pyav", "decord"])
@pytest.mark.parametrize("orientation", [1, 6, 2])
def test_exif_in_the_frames_of_an_avi_turns_nothing(tmp_path: Path, settings: DecodeSettings, orientation: int) -> None:
    path = made.make_camera_video(tmp_path / "camera.avi", orientation)
    assert difference(frames_at(path, FIRST, settings=settings)[0], made.corner_picture()) < DECODER_DIFFERENCE


@pytest.mark.parametrize("orientation", [1, 6, 3])
@pytest.mark.parametrize("suffix", ["mov", "mkv"])
def test_the_matrix_of_the_container_goes_over_exif(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = made.make_camera_video(tmp_path / f"camera.{suffix}", orientation, rotation=90)
    plain = made.make_video(
        tmp_path / f"plain.{suffix}",
        num_frames=1,
        rotation=90,
        frames=iter([made.corner_picture()]),
        seconds=[0.0],
    )
    expected = frames_at(plain, FIRST, settings=PYAV)[0]
    assert difference(frames_at(path, FIRST, settings=PYAV)[0], expected) < DECODER_DIFFERENCE


@needs_shared
@pytest.mark.parametrize("settings", [PYAV, DECORD], ids=["pyav", "decord"])
def test_a_camera_avi_with_exif_is_read(settings: DecodeSettings) -> None:
    found = load_views(FIELD / "exif_mjpeg.avi", view_request(), settings=settings)
    assert (found.metadata.num_frames, found.metadata.width, found.metadata.height) == (20, 320, 240)


@pytest.mark.parametrize("hflip", [False, True], ids=["", "hflip"])
@pytest.mark.parametrize("degrees", [0, 90, -90, 180])
def test_a_display_matrix_turns_and_mirrors_as_ffmpeg_does(tmp_path: Path, degrees: int, hflip: bool) -> None:
    picture = made.corner_picture(width=192, height=128)
    path = made.make_video(
        tmp_path / "turned.mp4", seconds=[0, 0.1], width=192, height=128, rotation=degrees, hflip=hflip,
        frames=iter([picture, picture]),
    )  # fmt: skip
    frame = frames_at(path, FIRST, settings=PYAV)[0]
    expected = next(ffmpeg_frames(path, width=frame.shape[1], height=frame.shape[0]))
    assert frame.shape[:2] == ((192, 128) if degrees % 180 else (128, 192))
    np.testing.assert_array_equal(frame, expected)
    if hflip:
        with pytest.raises(UndecodableVideo, match="pyav decoder"):
            frames_at(path, FIRST, settings=DECORD)
    else:
        np.testing.assert_array_equal(frames_at(path, FIRST, settings=DECORD)[0], expected)


@pytest.mark.parametrize(("angle", "quarter_turns"), [(5, 0), (40, 0), (60, 1), (100, 1), (170, 2), (-80, 3)])
def test_other_angles_go_to_the_nearest_quarter_turn(tmp_path: Path, angle: float, quarter_turns: int) -> None:
    picture = made.corner_picture(width=192, height=128)
    frames = {}
    for name, degrees in (("odd.mp4", angle), ("right.mp4", 90 * quarter_turns)):
        path = made.make_video(
            tmp_path / name, seconds=[0.0], width=192, height=128, rotation=degrees, frames=iter([picture])
        )
        frames[name] = frames_at(path, FIRST, settings=PYAV)[0]
    np.testing.assert_array_equal(frames["odd.mp4"], frames["right.mp4"])
    with pytest.raises(UndecodableVideo, match="pyav decoder"):
        frames_at(tmp_path / "odd.mp4", FIRST, settings=DECORD)


def test_a_matrix_without_meaning_leaves_the_picture_as_it_is() -> None:
    picture = made.corner_picture()
    for matrix in (None, (0, 0, 0, 0), (65536, 0, 0, 65536), (1 << 30, 0, 0, 1 << 30)):
        np.testing.assert_array_equal(apply_display_matrix(picture, matrix), picture)
    assert is_quarter_turn(None)
    assert not is_quarter_turn((0, 0, 0, 0))
    assert not is_quarter_turn((-65536, 0, 0, 65536))
