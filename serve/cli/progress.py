"""A progress bar on standard error, where commands show one (`Output.shows_progress`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from serve.cli.output import Output

Advance = Callable[[int, int], None]  # called with (done, total)


@contextmanager
def show_progress(description: str, shown: Output) -> Iterator[Advance]:
    """Yield a function that moves the bar; the bar disappears at the end of the block."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), disable=not shown.shows_progress, transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
