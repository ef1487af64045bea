"""`actserve timeline`: segments of long videos in this process; progress goes to stderr, answers to stdout."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from serve.api.options import checked
from serve.api.problems import problem_document
from serve.cli.plots import draw_timeline
from serve.environment import load_settings
from serve.errors import ActserveError, InvalidOption
from serve.extras import require_extra
from serve.files import write_atomically
from serve.jobs.results import line_of_answer
from serve.service import Service
from serve.timeline.answers import TimelineAnswer
from serve.timeline.files import FORMATS
from serve.timeline.options import TimelineOptions
from serve.video.view_request import VideoInfo

PICTURE = "png"


@dataclass(frozen=True, kw_only=True)
class TimelineArguments:
    """The arguments of the command."""

    videos: list[Path]
    options: dict[str, Any]
    repository: Path | None
    kinds: tuple[str, ...]  # files to write for each video: csv, srt, vtt, png
    out: Path
    as_json: bool


def make_timelines(arguments: TimelineArguments) -> int:
    """Make the timeline of each video; report those that fail. Return 1 if any failed, else 0.

    Raises:
        InvalidOption: an option is wrong, or a file exists already; nothing was done.
    """
    options = checked(TimelineOptions, arguments.options)
    if PICTURE in arguments.kinds:
        require_extra("plots", needed_by="--plot")
    _check_files(arguments)
    return asyncio.run(_make_all(arguments, options))


def _check_files(arguments: TimelineArguments) -> None:
    """Refuse to overwrite a file, or to write one twice."""
    written: dict[Path, Path] = {}
    for video in arguments.videos:
        for path in _files(arguments, video):
            if path.exists():
                raise InvalidOption(f"{path} exists already; remove it, or choose another folder with --out")
            if path in written:
                raise InvalidOption(f"{written[path]} and {video} would both write {path}")
            written[path] = video


def _files(arguments: TimelineArguments, video: Path) -> list[Path]:
    return [arguments.out / f"{video.stem}.{kind}" for kind in arguments.kinds]


async def _make_all(arguments: TimelineArguments, options: TimelineOptions) -> int:
    given = {"model": options.model, "repository": arguments.repository}
    settings = load_settings({name: value for name, value in given.items() if value is not None})
    settings.require_extras()
    service = Service(settings)
    failures = 0
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
    try:
        await service.start()
        with bar:
            for index, video in enumerate(arguments.videos):
                task = bar.add_task(video.name, total=None, done="")
                try:
                    answer = await _one(service, video, options, bar, task)
                except ActserveError as error:
                    failures += 1
                    if arguments.as_json:
                        _print_line(index, video, problem=problem_document(error))
                    else:
                        print(f"{video}: {error.message}", file=sys.stderr, flush=True)
                    continue
                finally:
                    bar.remove_task(task)
                await asyncio.to_thread(_write, arguments, video, answer)
                if arguments.as_json:
                    _print_line(index, video, result=answer.model_dump(mode="json"))
                else:
                    _show(video, answer)
    finally:
        await service.close()
    return 1 if failures else 0


async def _one(service: Service, video: Path, options: TimelineOptions, bar: Progress, task: TaskID) -> TimelineAnswer:
    def progress(seconds: float, info: VideoInfo) -> None:
        total = info.duration_seconds
        bar.update(task, completed=seconds, total=total, done=f"{seconds:.0f} of {total:.0f} s")

    deadline = asyncio.get_running_loop().time() + service.settings.timeline.deadline_seconds
    return await service.timelines.timeline(video, options, deadline=deadline, progress=progress)


def _write(arguments: TimelineArguments, video: Path, answer: TimelineAnswer) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    segments = answer.segments or []
    for path in _files(arguments, video):
        kind = path.suffix.removeprefix(".")
        if kind == PICTURE:
            draw_timeline(segments, path, duration_seconds=answer.video.duration_seconds)
        else:
            write_atomically(path, FORMATS[kind](segments))


def _show(video: Path, answer: TimelineAnswer) -> None:
    end = ", which breaks off" if answer.video.truncated else ""
    print(f"{video}: {answer.video.duration_seconds:.1f} s{end}")
    for line in segment_lines(answer):
        print(line)
    sys.stdout.flush()
    if answer.notice:
        print(f"note: {answer.notice}", file=sys.stderr)


def segment_lines(answer: TimelineAnswer) -> Sequence[str]:
    """Return a line of text for each segment."""
    return [
        f"  {item.start_seconds:9.2f} {item.end_seconds:9.2f}  {item.score:.3f}  {item.label}"
        for item in answer.segments or ()
    ] or ["  no segment"]


def _print_line(
    index: int, video: Path, *, result: dict[str, Any] | None = None, problem: dict[str, Any] | None = None
) -> None:
    line = line_of_answer("timeline", index=index, name=str(video), result=result, problem=problem)
    print(line, end="", flush=True)
