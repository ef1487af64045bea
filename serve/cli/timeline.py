"""`actserve timeline`: find segments of long videos locally; progress is printed to stderr, results to stdout."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from serve.api.options import validate_options
from serve.cli.output import Output
from serve.cli.plots import draw_timeline
from serve.environment import load_settings
from serve.errors import InvalidOption
from serve.extras import require_extra
from serve.files import write_atomically
from serve.jobs.results import command_result_line
from serve.jobs.runner import Outcome, run_inputs
from serve.service import Service
from serve.timeline.files import FORMATS
from serve.timeline.options import TimelineOptions
from serve.timeline.responses import TimelineResponse

PLOT_FORMAT = "png"


@dataclass(frozen=True, kw_only=True)
class TimelineArguments:
    """Arguments of the command."""

    videos: list[Path]
    options: dict[str, Any]
    repository: Path | None
    formats: tuple[str, ...]  # formats of the files to write for each video: csv, srt, vtt, png
    out: Path
    output: Output


def make_timelines(arguments: TimelineArguments) -> int:
    """Make the timeline of each video; report those that fail. Return 1 if any failed, else 0.

    Raises:
        InvalidOption: an option is invalid, or an output file already exists; nothing was done.
    """
    options = validate_options(TimelineOptions, arguments.options)
    if PLOT_FORMAT in arguments.formats:
        require_extra("plots", needed_by="--plot")
    _check_output_paths(arguments)
    return asyncio.run(_make_all(arguments, options))


def _check_output_paths(arguments: TimelineArguments) -> None:
    """Check that no output file exists and that no two videos have the same output file."""
    video_of: dict[Path, Path] = {}
    for video in arguments.videos:
        for path in _output_paths(arguments, video):
            if path.exists():
                raise InvalidOption(f"{path} already exists; remove it, or choose another folder with --out")
            if path in video_of:
                raise InvalidOption(f"{video_of[path]} and {video} would both write {path}")
            video_of[path] = video


def _output_paths(arguments: TimelineArguments, video: Path) -> list[Path]:
    return [arguments.out / f"{video.stem}.{file_format}" for file_format in arguments.formats]


async def _make_all(arguments: TimelineArguments, options: TimelineOptions) -> int:
    overrides = {"model": options.model, "repository": arguments.repository}
    settings = load_settings({name: value for name, value in overrides.items() if value is not None})
    settings.require_extras()
    service = Service(settings)
    failures = 0
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"), TimeRemainingColumn(),
        console=Console(stderr=True), disable=not arguments.output.shows_progress, transient=True,
    )  # fmt: skip

    async def process(video: Path) -> dict[str, Any]:
        task = bar.add_task(video.name, total=None, done="")
        try:
            return await _make_timeline(service, video, arguments.options, bar, task)
        finally:
            bar.remove_task(task)

    try:
        await service.start()
        outcomes = run_inputs(arguments.videos, process, workers=1, is_ordered=True)
        async with aclosing(outcomes):
            with bar:
                async for outcome in outcomes:
                    failures += outcome.problem is not None
                    await asyncio.to_thread(_report, outcome, arguments)
    finally:
        await service.close()
    return 1 if failures else 0


async def _make_timeline(
    service: Service, video: Path, options: dict[str, Any], bar: Progress, task: TaskID
) -> dict[str, Any]:
    def report_progress(seconds: float, total: float) -> None:
        bar.update(task, completed=seconds, total=total, done=f"{seconds:.0f} of {total:.0f} s")

    deadline = asyncio.get_running_loop().time() + service.settings.timeline.deadline_seconds
    return await service.input_processor.run(
        "timeline", video, options, name=video.name, deadline=deadline, progress=report_progress
    )


def _report(outcome: Outcome[Path, dict[str, Any]], arguments: TimelineArguments) -> None:
    """Write the files of a timeline and print it, or print the problem of its video."""
    video, result, problem = outcome.item, outcome.result, outcome.problem
    timeline = None if result is None else TimelineResponse.model_validate(result)
    if timeline is not None:
        _write_files(arguments, video, timeline)
    if arguments.output.as_json:
        line = command_result_line("timeline", index=outcome.index, name=str(video), result=result, problem=problem)
        print(line, end="", flush=True)
    elif timeline is not None:
        _print_result(video, timeline, arguments.output)
    elif problem is not None:
        print(f"{video}: {problem['detail']}", file=sys.stderr, flush=True)


def _write_files(arguments: TimelineArguments, video: Path, result: TimelineResponse) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    segments = result.segments or []
    for path in _output_paths(arguments, video):
        file_format = path.suffix.removeprefix(".")
        if file_format == PLOT_FORMAT:
            draw_timeline(segments, path, duration_seconds=result.video.duration_seconds)
        else:
            write_atomically(path, FORMATS[file_format](segments))


def _print_result(video: Path, result: TimelineResponse, output: Output) -> None:
    suffix = " (truncated)" if result.video.truncated else ""
    print(f"{video}: {result.video.duration_seconds:.1f} s{suffix}")
    for line in format_segments(result):
        print(line)
    sys.stdout.flush()
    if result.notice:
        output.note(f"note: {result.notice}")


def format_segments(result: TimelineResponse) -> Sequence[str]:
    """Return one line of text per segment, or the line "no segments"."""
    return [
        f"  {item.start_seconds:9.2f} {item.end_seconds:9.2f}  {item.score:.3f}  {item.label}"
        for item in result.segments or ()
    ] or ["  no segments"]
