"""Output of commands: text for people, or JSON; the options `--json` and `--quiet` of every command.

Results are printed on standard output, one line per document with `--json`; notes and progress on standard error.
"""

import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer

Function = TypeVar("Function", bound=Callable[..., Any])

AsJson = Annotated[bool, typer.Option("--json", help="Print results as JSON, one document per line.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only: no progress and no notes.")]
OPTIONS = {"as_json": AsJson, "quiet": Quiet}


@dataclass(frozen=True)
class Output:
    """How the current command prints."""

    as_json: bool = False
    is_quiet: bool = False

    @property
    def shows_progress(self) -> bool:
        """Whether progress is shown: only on a terminal."""
        return sys.stderr.isatty() and not self.is_quiet

    def result(self, document: Mapping[str, Any], text: str | None) -> None:
        """Print a result: the document with `--json`, otherwise the text, if any."""
        if self.as_json:
            typer.echo(json.dumps(document, ensure_ascii=False))
        elif text is not None:
            typer.echo(text)

    def change(self, document: Mapping[str, Any], text: str) -> None:
        """Print the confirmation of a change; with `--quiet`, only as JSON."""
        self.result(document, None if self.is_quiet else text)

    def note(self, text: str) -> None:
        """Print a remark on standard error, unless `--quiet` is set."""
        if not self.is_quiet:
            typer.echo(text, err=True)


TEXT = Output()
_current: ContextVar[Output] = ContextVar("output", default=TEXT)


def output() -> Output:
    """Return how the current command prints."""
    return _current.get()


def command(app: typer.Typer, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
    """Register a function as a command with the options `--json` and `--quiet`; the function itself is unchanged."""

    def register(function: Function) -> Function:
        app.command(name, **settings)(_with_output_options(function))
        return function

    return register


def _with_output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function with the parameters of `OPTIONS` in addition, which sets the output of the command."""

    @functools.wraps(function)
    def run(*, as_json: bool, quiet: bool, **arguments: Any) -> Any:
        if as_json and arguments.get("print_curl"):
            raise typer.BadParameter("--print-curl cannot be combined with --json")
        token = _current.set(Output(as_json, quiet))
        try:
            return function(**arguments)
        finally:
            _current.reset(token)

    keyword_only = inspect.Parameter.KEYWORD_ONLY
    added = [inspect.Parameter(name, keyword_only, default=False, annotation=kind) for name, kind in OPTIONS.items()]
    signature = inspect.signature(function)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    run.__annotations__ = {**function.__annotations__, **OPTIONS}
    return run
