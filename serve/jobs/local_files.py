"""Files that the arguments of commands stand for: a file, the videos of a folder, or the matches of a pattern."""

import glob
from pathlib import Path

from serve.errors import InvalidOption
from serve.jobs.server_folder import iter_files


def expand_path(text: str) -> list[Path]:
    """Return the files that a path or a pattern stands for; those of a folder or a pattern are sorted by name.

    Raises:
        InvalidOption: it stands for no file.
    """
    path = Path(text)
    if path.is_dir():
        files = sorted(iter_files(path, None))
        if not files:
            raise InvalidOption(f"the folder {text} contains no file with a video suffix")
        return files
    if path.exists():
        return [path]
    if not glob.has_magic(text):
        raise InvalidOption(f"{text}: there is no such file or folder")
    matches = sorted(Path(match) for match in glob.iglob(text, recursive=True))  # noqa: PTH207  # also absolute patterns
    files = [match for match in matches if match.is_file()]
    if not files:
        raise InvalidOption(f"the pattern {text} matches no file")
    return files
