"""List the images of a folder of extracted frames, in order."""

import re
from pathlib import Path

FRAME_TEMPLATE = "img_{:05d}.jpg"  # file names that this project writes
ZERO_BASED_TEMPLATE = "frame{:d}.jpg"  # the only template of ActionCLIP's code whose numbers start at 0
IMAGE_NAME = re.compile(r"(?P<prefix>.*?)(?P<number>[0-9]+)(?P<suffix>\.(?:jpg|jpeg|png|bmp|webp))", re.IGNORECASE)
FLOW_PREFIX = re.compile(r"flow.*|.*_[xy]_|[xyuv]_", re.IGNORECASE)  # optical flow stored beside the frames


class FrameFolderError(ValueError):
    """The folder does not contain one complete series of frame images; the message says why."""


def first_file_number(template: str = FRAME_TEMPLATE, bias: int | None = None) -> int:
    """Return the number of the first file: `bias` if given, 0 for `frame{:d}.jpg`, and 1 for other templates."""
    if bias is not None:
        return bias
    return 0 if template == ZERO_BASED_TEMPLATE else 1


def frame_files(folder: Path, num_frames: int) -> list[Path]:
    """Return the paths of the frame images of a folder in order; there must be exactly `num_frames`.

    File names must form one series: the same prefix and suffix around consecutive numbers from 0 or 1.

    Raises:
        FrameFolderError: there is no series or more than one, an image is missing, or the number of images differs.
    """
    series = _series(folder)
    numbers = sorted(series)
    first = numbers[0]
    if first not in (0, 1):
        raise FrameFolderError(f"the first image is {series[first]}; numbers must start at 0 or 1")
    missing = next((number for number in range(first, first + len(numbers)) if number not in series), None)
    if missing is not None and missing in range(first, first + num_frames):
        raise FrameFolderError(f"{_numbered_name(series[first], missing)} is missing")
    if len(numbers) < num_frames:
        raise FrameFolderError(
            f"{_numbered_name(series[first], first + len(numbers))} is missing: "
            f"the list says {num_frames} frames, the folder contains {len(numbers)}"
        )
    if len(numbers) > num_frames:
        raise FrameFolderError(f"the list says {num_frames} frames, the folder contains {len(numbers)}")
    return [folder / series[number] for number in numbers]


def _series(folder: Path) -> dict[int, str]:
    """Return number -> file name of the only series of images in a folder.

    Raises:
        FrameFolderError: the folder is missing, or contains no series or several.
    """
    series_by_affixes: dict[tuple[str, str], dict[int, str]] = {}  # (prefix, suffix) -> series
    try:
        names = sorted(path.name for path in folder.iterdir())
    except NotADirectoryError as error:
        raise FrameFolderError("the path is a file; it must be a folder of frame images") from error
    except FileNotFoundError as error:
        raise FrameFolderError("the folder is missing") from error
    except OSError as error:
        raise FrameFolderError(f"the folder cannot be read: {error.strerror}") from error
    for name in names:
        match = IMAGE_NAME.fullmatch(name)
        if match is not None and not name.startswith(".") and not FLOW_PREFIX.fullmatch(match["prefix"]):
            series = series_by_affixes.setdefault((match["prefix"], match["suffix"].lower()), {})
            first_name = series.setdefault(int(match["number"]), name)
            if first_name != name:
                raise FrameFolderError(f"{first_name} and {name} have the same frame number")
    if len(series_by_affixes) != 1:
        patterns = ", ".join(sorted(f"{prefix}*{suffix}" for prefix, suffix in series_by_affixes))
        raise FrameFolderError(f"the folder must contain one series of numbered images, found {patterns or 'none'}")
    return next(iter(series_by_affixes.values()))


def _numbered_name(name: str, number: int) -> str:
    """Return a file name of the same series as `name`, with another number."""
    match = IMAGE_NAME.fullmatch(name)
    assert match is not None, "names of a series match"
    return f"{match['prefix']}{number:0{len(match['number'])}d}{match['suffix']}"
