"""Options that several command lines share."""

import sys
from typing import Annotated

import typer

from serve.variables import COMMAND_LINE_PREFIX, refuse_unknown
from serve.version import VERSION


def print_version(is_given: bool) -> None:
    """Print the version of the distribution and end."""
    if is_given:
        typer.echo(f"actserve {VERSION}")
        raise typer.Exit


def check_variables() -> None:
    """Refuse unknown variables of the command line's prefix.

    Raises:
        ActserveError: names each and the nearest known one.
    """
    refuse_unknown(COMMAND_LINE_PREFIX)


Version = Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(question: str, *, is_given: bool) -> None:
    """Ask before something that cannot be undone; where nobody can answer, `--yes` is required.

    Raises:
        typer.BadParameter: there is no terminal to ask on.
        typer.Abort: the answer is no.
    """
    if is_given:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{question} There is no terminal to ask on: confirm with --yes")
    typer.confirm(question, abort=True)
