"""List the pictures of a folder of extracted frames, in order."""

import re
from pathlib import Path

FRAME_TEMPLATE = "img_{:05d}.jpg"  # file names that this project writes
ZERO_BASED_TEMPLATE = "frame{:d}.jpg"  # the only template whose files start at 0 in the original systems
PICTURE = re.compile(r"(?P<prefix>.*?)(?P<number>[0-9]+)(?P<suffix>\.(?:jpg|jpeg|png|bmp|webp))", re.IGNORECASE)
OTHER_SERIES = re.compile(r"flow.*|.*_[xy]_|[xyuv]_", re.IGNORECASE)  # optical flow beside the pictures


class FrameFolderError(ValueError):
    """The folder is not a series of pictures; the message says why."""


def first_file_number(template: str = FRAME_TEMPLATE, bias: int | None = None) -> int:
    """Return the number of the first file: `bias` if given, else 0 for `frame{:d}.jpg`, else 1."""
    if bias is not None:
        return bias
    return 0 if template == ZERO_BASED_TEMPLATE else 1


def frame_files(folder: Path, num_frames: int) -> list[Path]:
    """Return the pictures of a folder in order; their number must be that of the list.

    Names are a series: equal text around a number that counts from 0 or 1.

    Raises:
        FrameFolderError: there is no series, a picture is missing, or the list has another number.
    """
    series = _series(folder)
    numbers = sorted(series)
    first = numbers[0]
    if first not in (0, 1):
        raise FrameFolderError(f"the pictures start at {series[first]}; expected 0 or 1")
    gap = next((number for number in range(first, first + len(numbers)) if number not in series), None)
    wanted = range(first, first + num_frames)
    if gap is not None and gap in wanted:
        raise FrameFolderError(f"{_name_like(series[first], gap)} is missing")
    if len(numbers) < num_frames:
        raise FrameFolderError(
            f"{_name_like(series[first], first + len(numbers))} is missing: "
            f"the list counts {num_frames} frames, the folder holds {len(numbers)}"
        )
    if len(numbers) > num_frames:
        raise FrameFolderError(f"the list counts {num_frames} frames, the folder holds {len(numbers)}")
    return [folder / series[number] for number in numbers]


def _series(folder: Path) -> dict[int, str]:
    """Return number -> file name of the only series of pictures.

    Raises:
        FrameFolderError: the folder is missing, or has no or several series.
    """
    found: dict[tuple[str, str], dict[int, str]] = {}
    try:
        names = sorted(path.name for path in folder.iterdir())
    except NotADirectoryError as error:
        raise FrameFolderError("it is not a folder of pictures") from error
    except FileNotFoundError as error:
        raise FrameFolderError("the folder is missing") from error
    except OSError as error:
        raise FrameFolderError(f"the folder cannot be read: {error.strerror}") from error
    for name in names:
        match = PICTURE.fullmatch(name)
        if match is not None and not name.startswith(".") and not OTHER_SERIES.fullmatch(match["prefix"]):
            series = found.setdefault((match["prefix"], match["suffix"].lower()), {})
            twin = series.setdefault(int(match["number"]), name)
            if twin != name:
                raise FrameFolderError(f"{twin} and {name} are the same frame")
    if len(found) != 1:
        kinds = ", ".join(sorted(f"{prefix}*{suffix}" for prefix, suffix in found))
        raise FrameFolderError(f"one series of numbered pictures is needed, found {kinds or 'none'}")
    return next(iter(found.values()))


def _name_like(name: str, number: int) -> str:
    match = PICTURE.fullmatch(name)
    assert match is not None, "it was matched before"
    return f"{match['prefix']}{number:0{len(match['number'])}d}{match['suffix']}"
