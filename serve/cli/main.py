"""The command `actserve`, which joins all commands.

actserve serve --model demo --port 8080
actserve classify clip.mp4 --labels "waving,walking" --top-k 3
"""

import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from serve.cli import backup, batch, feedback, jobs, keys, models, programs, videos, vocabularies
from serve.cli.calls import OptionalServer
from serve.cli.inputs import Inputs, expand_inputs
from serve.cli.options import Labels, ModelName, Templates, VocabularyName
from serve.cli.output import command, output
from serve.cli.parameters import Version, check_variables
from serve.exit_status import run_app

VIDEOS, ADMINISTRATION, MODELS = "Videos", "Administration", "Training and export"  # groups of `actserve --help`

app = typer.Typer(no_args_is_help=True, help="Zero-shot video action recognition.")
app.add_typer(jobs.app, name="jobs", rich_help_panel=VIDEOS)
app.add_typer(videos.app, name="videos", rich_help_panel=VIDEOS)
command(app, rich_help_panel=VIDEOS)(videos.search)
command(app, rich_help_panel=VIDEOS)(batch.batch)
app.add_typer(vocabularies.app, name="vocab", rich_help_panel=ADMINISTRATION)
app.add_typer(models.app, name="models", rich_help_panel=ADMINISTRATION)
app.add_typer(feedback.app, name="feedback", rich_help_panel=ADMINISTRATION)
app.add_typer(keys.app, name="keys", rich_help_panel=ADMINISTRATION)
command(app, rich_help_panel=ADMINISTRATION)(backup.backup)
command(app, rich_help_panel=ADMINISTRATION)(backup.restore)
command(app, rich_help_panel=ADMINISTRATION)(backup.doctor)
app.command(rich_help_panel=MODELS, context_settings=programs.FORWARD_ARGUMENTS)(programs.train)
app.command(rich_help_panel=MODELS, context_settings=programs.FORWARD_ARGUMENTS)(programs.export)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command `actserve`."""
    run_app(app, arguments, name="actserve", prefix="actserve")


@app.callback()
def actserve(context: typer.Context, version: Version = False) -> None:
    """Zero-shot video action recognition."""
    if context.invoked_subcommand not in (
        "serve",
        "keys",
        "backup",
        "restore",
        "doctor",
    ):  # these check the variables of the server as well
        check_variables()


@app.command(rich_help_panel=VIDEOS)
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 chooses a free port.")] = None,
    model: Annotated[str | None, typer.Option(help="Default model, NAME or NAME@VERSION.")] = None,
    repository: Annotated[Path | None, typer.Option(help="Folder of models.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="Engine: auto, openvino-f32, triton, ... (see docs/settings.md).")
    ] = None,
    triton_url: Annotated[
        str | None, typer.Option(help="Host and port of the gRPC endpoint of a Triton server.")
    ] = None,
) -> None:
    """Run the server. Other settings are read from SERVE_* variables (see docs/settings.md)."""
    gc.disable()  # until the server is ready: objects created before then live on, so collections would find nothing
    from serve.server import run  # imported here, because it loads the libraries of the server

    triton = None if triton_url is None else {"url": triton_url}
    overrides = {
        "host": host, "port": port, "model": model, "repository": repository, "engine": engine, "triton": triton,
    }  # fmt: skip
    sys.exit(run({name: value for name, value in overrides.items() if value is not None}))


@command(app, rich_help_panel=VIDEOS)
def classify(
    context: typer.Context,
    videos: Inputs,
    labels: Labels = None,
    vocabulary: VocabularyName = None,
    template: Templates = None,
    top_k: Annotated[int, typer.Option(min=1, help="Number of labels to return.")] = 5,
    clips: Annotated[int, typer.Option(min=1, help="Number of clips sampled from each video.")] = 1,
    crops: Annotated[int, typer.Option(help="1 (centre) or 3 crops.")] = 1,
    function: Annotated[
        Literal["softmax", "sigmoid", "none"] | None,
        typer.Option(help="softmax, sigmoid or none; by default the activation of the model."),
    ] = None,
    model: ModelName = None,
    repository: Annotated[Path | None, typer.Option(help="Folder of models, to classify locally.")] = None,
    server: OptionalServer = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the results instead of standard output: NAME.jsonl or NAME.csv.")
    ] = None,
) -> None:
    """Classify video files and folders locally or on a server; several files show a progress bar."""
    from serve.cli.classify import ClassifyArguments, classify_files
    from serve.cli.result_files import check_result_file

    if repository is not None and server is not None:
        source = context.get_parameter_source("server")
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter("--repository classifies locally and cannot be combined with --server")
        server = None  # --repository overrides the variable ACTSERVE_SERVER
    if out is not None:
        if output().as_json:
            raise typer.BadParameter("--json prints to standard output and cannot be combined with --out")
        check_result_file(out)

    document: dict[str, Any] = {
        "candidate_labels": labels, "vocabulary": vocabulary, "templates": template or None, "top_k": top_k,
        "num_clips": clips, "num_crops": crops, "function_to_apply": function,
    }  # fmt: skip
    arguments = ClassifyArguments(
        videos=expand_inputs(videos),
        options={name: value for name, value in document.items() if value is not None},
        model=model,
        repository=repository,
        server=server,
        output=output(),
        out=out,
    )
    sys.exit(classify_files(arguments))


@command(app, rich_help_panel=VIDEOS)
def timeline(
    videos: Inputs,
    labels: Labels = None,
    vocabulary: VocabularyName = None,
    template: Templates = None,
    window: Annotated[float | None, typer.Option(help="Length of a window in seconds.")] = None,
    stride: Annotated[float | None, typer.Option(help="Distance between the starts of windows in seconds.")] = None,
    threshold_on: Annotated[float | None, typer.Option(help="Score at which a segment starts.")] = None,
    threshold_off: Annotated[float | None, typer.Option(help="Score below which a segment ends.")] = None,
    min_segment: Annotated[float | None, typer.Option(help="Shortest segment in seconds.")] = None,
    gap: Annotated[float | None, typer.Option(help="Longest gap in seconds within a segment.")] = None,
    function: Annotated[
        Literal["softmax", "sigmoid"] | None,
        typer.Option(help="softmax or sigmoid; by default the activation of the model."),
    ] = None,
    model: ModelName = None,
    repository: Annotated[Path | None, typer.Option(help="Folder of models.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write the segments as a table, VIDEO.csv.")] = False,
    srt: Annotated[bool, typer.Option("--srt", help="Write subtitles, VIDEO.srt.")] = False,
    vtt: Annotated[bool, typer.Option("--vtt", help="Write subtitles for browsers, VIDEO.vtt.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Plot the segments, VIDEO.png.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the written files; by default the working directory.")
    ] = None,
) -> None:
    """Find the segments of long videos that show a label, locally."""
    from serve.cli.timeline import TimelineArguments, make_timelines

    requested = {"csv": csv, "srt": srt, "vtt": vtt, "png": plot}
    formats = tuple(name for name, is_requested in requested.items() if is_requested)
    if out is not None and not formats:
        raise typer.BadParameter("--out needs at least one of --csv, --srt, --vtt and --plot")
    document: dict[str, Any] = {
        "candidate_labels": labels, "vocabulary": vocabulary, "templates": template or None,
        "window_seconds": window, "stride_seconds": stride, "threshold_on": threshold_on,
        "threshold_off": threshold_off, "min_segment_seconds": min_segment, "gap_seconds": gap,
        "function_to_apply": function, "model": model,
    }  # fmt: skip
    arguments = TimelineArguments(
        videos=expand_inputs(videos),
        options={name: value for name, value in document.items() if value is not None},
        repository=repository,
        formats=formats,
        out=out or Path(),
        output=output(),
    )
    sys.exit(make_timelines(arguments))
