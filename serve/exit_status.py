"""Exit statuses of all command lines of the distribution, with one line on standard error.

0 done. 1 The work failed, or its result is negative: a server refuses or does not answer, a download fails, a check
   does not pass, a disk is full. 2 The input cannot be used and nothing was done: an unknown option or variable, a
   value out of range, a file that is missing, unreadable or of the wrong kind, a model that does not exist, an extra
   that is not installed.
"""

import sys
from collections.abc import Sequence
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from serve.errors import ActserveError, ConfigurationError, RequestError
from serve.extras import MissingExtra, require_extra

DONE, FAILED, UNUSABLE = 0, 1, 2
# of the operating system: about a path that was given
UNUSABLE_PATHS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)


def status_of(error: BaseException) -> int:
    """Return the exit status for an error of the server's tree, of a missing extra or of the operating system."""
    return UNUSABLE if isinstance(error, (RequestError, ConfigurationError, MissingExtra, *UNUSABLE_PATHS)) else FAILED


def exit_without(extra: str, *, needed_by: str) -> None:
    """End a program with one line on standard error if an extra is missing."""
    try:
        require_extra(extra, needed_by=needed_by)
    except MissingExtra as error:
        _end("error", str(error), status_of(error))


def run_app(
    app: typer.Typer,
    arguments: Sequence[str] | None = None,
    *,
    name: str,
    prefix: str = "error",
    unusable: tuple[type[Exception], ...] = (),
    failed: tuple[type[Exception], ...] = (),
) -> None:
    """Run a command line; return when all is done, else exit.

    `unusable` and `failed` are further errors that end with 2 and with 1. Any other error is a bug and keeps its
    traceback.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = typer.main.get_command(app).main(args=words, prog_name=name, standalone_mode=False)
    except TyperException as error:
        line = one_line(error.format_message()).removesuffix(".")  # empty if the help was shown instead
        context = getattr(error, "ctx", None)
        _end(prefix, f"{line}; see `{context.command_path} --help`" if line and context else line, UNUSABLE)
    except typer.Abort:
        _end(prefix, "aborted", FAILED)
    except unusable as error:
        _end(prefix, one_line(str(error)), UNUSABLE)
    except failed as error:
        _end(prefix, one_line(str(error)), FAILED)
    except (ActserveError, MissingExtra) as error:
        _end(prefix, one_line(str(error)), status_of(error))
    except OSError as error:
        _end(prefix, describe_os_error(error), status_of(error))
    if isinstance(status, int) and status != DONE:
        sys.exit(status)


def describe_os_error(error: OSError) -> str:
    """What the operating system refused, path first."""
    if error.strerror is None:
        return one_line(str(error))
    return one_line(f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror)


def one_line(message: str) -> str:
    """A message of several lines as one."""
    return "; ".join(line.strip().removesuffix(";") for line in message.splitlines() if line.strip())


def _end(prefix: str, line: str, status: int) -> NoReturn:
    if line:
        print(f"{prefix}: {line}", file=sys.stderr)
    sys.exit(status)
