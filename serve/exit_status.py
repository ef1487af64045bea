"""Exit statuses of all commands of the distribution; errors are reported in one line on standard error."""

import sys
from collections.abc import Sequence
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from serve.errors import ActserveError, ConfigurationError, RequestError
from serve.extras import MissingExtra, require_extra

SUCCESS, FAILURE, INPUT_ERROR = 0, 1, 2
MEANINGS = {
    SUCCESS: "success",
    FAILURE: "the work failed or a check did not pass: a server rejects the request or does not respond, a video "
    "cannot be used, a download fails, a disk is full",
    INPUT_ERROR: "the input cannot be used and nothing was done: an unknown option or variable, a value out of range, "
    "a file that is missing, unreadable or of the wrong kind, a model that does not exist, an extra that is not "
    "installed, a platform on which the command does not run",
}
UNIX_MODULES = frozenset({"fcntl", "resource"})  # of the standard library; Python for Windows lacks them
INPUT_PATH_ERRORS = (  # errors of the operating system about a path of the user
    FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError,
)  # fmt: skip


def exit_status_of(error: BaseException) -> int:
    """Return the exit status for an `ActserveError`, a `MissingExtra` or an `OSError`."""
    return (
        INPUT_ERROR
        if isinstance(error, (RequestError, ConfigurationError, MissingExtra, *INPUT_PATH_ERRORS))
        else FAILURE
    )


def exit_if_missing_extra(extra: str, *, needed_by: str) -> None:
    """Exit with one line on standard error if an extra is not installed."""
    try:
        require_extra(extra, needed_by=needed_by)
    except MissingExtra as error:
        _exit("error", str(error), exit_status_of(error))


def run_app(
    app: typer.Typer,
    arguments: Sequence[str] | None = None,
    *,
    name: str,
    prefix: str = "error",
    input_errors: tuple[type[Exception], ...] = (),
    runtime_errors: tuple[type[Exception], ...] = (),
) -> None:
    """Run a command; return on success, otherwise exit with the status of the error.

    `input_errors` and `runtime_errors` are additional exception types that exit with 2 and 1. Any other exception is a
    bug and keeps its traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = typer.main.get_command(app).main(args=arguments, prog_name=name, standalone_mode=False)
    except TyperException as error:
        line = join_lines(error.format_message()).removesuffix(".")  # empty if the help was printed
        context = getattr(error, "ctx", None)
        _exit(prefix, f"{line}; see `{context.command_path} --help`" if line and context else line, INPUT_ERROR)
    except typer.Abort:
        _exit(prefix, "aborted", FAILURE)
    except input_errors as error:
        _exit(prefix, join_lines(str(error)), INPUT_ERROR)
    except runtime_errors as error:
        _exit(prefix, join_lines(str(error)), FAILURE)
    except (ActserveError, MissingExtra) as error:
        _exit(prefix, join_lines(str(error)), exit_status_of(error))
    except ModuleNotFoundError as error:
        if error.name not in UNIX_MODULES:
            raise
        _exit(prefix, describe_platform(error.name), INPUT_ERROR)
    except OSError as error:
        _exit(prefix, describe_os_error(error), exit_status_of(error))
    if isinstance(status, int) and status != SUCCESS:
        sys.exit(status)


def describe_platform(module: str) -> str:
    """Return the message for a platform without a Unix module of the standard library."""
    return (
        f"this command runs on Linux and macOS only, because it needs the module {module} of Python; on Windows, run "
        "it inside WSL 2 (`wsl --install`), or use `--server URL` and the Python client with another machine"
    )


def describe_os_error(error: OSError) -> str:
    """Return a message of the form `path: reason`, or the reason alone if the error has no path."""
    if error.strerror is None:
        return join_lines(str(error))
    return join_lines(f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror)


def join_lines(message: str) -> str:
    """Join the lines of a message with semicolons."""
    return "; ".join(line.strip().removesuffix(";") for line in message.splitlines() if line.strip())


def _exit(prefix: str, line: str, status: int) -> NoReturn:
    if line:
        print(f"{prefix}: {line}", file=sys.stderr)
    sys.exit(status)
