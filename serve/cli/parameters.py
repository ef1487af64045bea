"""Options and checks that several commands share."""

import sys
from typing import Annotated

import typer

from serve.variables import COMMAND_LINE_PREFIX, refuse_unknown
from serve.version import VERSION


def print_version(is_given: bool) -> None:
    """Print the version of the distribution and exit."""
    if is_given:
        typer.echo(f"actserve {VERSION}")
        raise typer.Exit


def check_variables() -> None:
    """Refuse unknown variables with the prefix of the command line.

    Raises:
        ConfigurationError: names each and the most similar known one.
    """
    refuse_unknown(COMMAND_LINE_PREFIX)


Version = Annotated[
    bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def confirm(question: str, *, is_given: bool) -> None:
    """Ask for confirmation of a change that cannot be undone; without a terminal, `--yes` is required.

    Raises:
        typer.BadParameter: there is no terminal.
        typer.Abort: the answer is no.
    """
    if is_given:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{question} There is no terminal to confirm on; pass --yes")
    typer.confirm(question, abort=True)
