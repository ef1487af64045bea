"""Options and checks used by several commands."""

import sys
from typing import Annotated

import typer

from serve.variables import COMMAND_LINE_PREFIX, reject_unknown_variables
from serve.version import VERSION


def print_version(is_requested: bool) -> None:
    """Print the version of the distribution and exit (callback of `--version`)."""
    if is_requested:
        typer.echo(f"actserve {VERSION}")
        raise typer.Exit


def check_variables() -> None:
    """Check that there are no unknown variables with the prefix `ACTSERVE_`.

    Raises:
        ConfigurationError: there are; the message names each of them and the most similar known variable.
    """
    reject_unknown_variables(COMMAND_LINE_PREFIX)


Version = Annotated[
    bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def confirm(question: str, *, is_confirmed: bool) -> None:
    """Ask for confirmation of a change that cannot be undone, unless `is_confirmed` (`--yes`).

    Raises:
        typer.BadParameter: standard input is not a terminal.
        typer.Abort: the user declined.
    """
    if is_confirmed:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{question} Standard input is not a terminal; confirm with --yes")
    typer.confirm(question, abort=True)
