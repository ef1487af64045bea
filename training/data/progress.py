"""A progress bar on standard error, with the rate and the remaining time."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "  -/s")


class Bar:
    """Counts finished and failed items."""

    def __init__(self, progress: Progress, *, label: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=total, failed="")
        self._num_failed = 0

    def advance(self, *, is_failure: bool = False) -> None:
        """Count one finished item."""
        self._num_failed += is_failure
        self._progress.update(self._task, advance=1, failed=f"{self._num_failed} failed" if self._num_failed else "")


@contextmanager
def progress_bar(label: str, *, total: int, is_shown: bool = True) -> Iterator[Bar]:
    """Show a progress bar while the context is active."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not is_shown) as progress:
        yield Bar(progress, label=label, total=total)
