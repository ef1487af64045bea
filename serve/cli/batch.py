"""`actserve batch`: process an archive of videos in this process; the results are written to a folder.

actserve batch videos/ --out results/ --labels "waving,walking"
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from serve.cli.inputs import STANDARD_INPUT, read_list
from serve.cli.options import KindOption, Labels, ModelName, MoreOptions, VocabularyName, merge_options
from serve.cli.output import Output, output
from serve.cli.progress import show_progress

Format = Literal["parquet", "jsonl", "both"]
SUMMARY = (
    "{total} inputs: {completed} completed and {failed} failed in this run; "
    "{completed_before} completed and {failed_before} failed before"
)


def batch(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Video files, folders, patterns, lists of paths (*.txt, *.lst, or - for standard input), tables of "
            "paths (*.parquet), URLs such as s3://bucket/clips/.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for the results: a new one, or that of an earlier run to continue.")
    ],
    kind: KindOption = "classify",
    labels: Labels = None,
    vocabulary: VocabularyName = None,
    model: ModelName = None,
    options: MoreOptions = None,
    output_format: Annotated[
        Format, typer.Option("--format", help="parquet: tables; jsonl: lines of JSON as jobs return them; both.")
    ] = "parquet",
    features: Annotated[
        bool, typer.Option("--features", help="Write the features of each window or clip into the table.")
    ] = False,
    column: Annotated[
        str | None, typer.Option(help="Column of *.parquet inputs with the paths; by default `path`.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Videos processed concurrently; by default one per processor.")
    ] = None,
    part_size: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Largest number of inputs in one file of the output.")
    ] = 1000,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Process the inputs again that failed in earlier runs.")
    ] = False,
    repository: Annotated[Path | None, typer.Option(help="Folder of models.")] = None,
) -> None:
    """Process an archive of videos locally and write tables; a run that was stopped or killed can be continued."""
    from serve.batch.inputs import list_inputs
    from serve.batch.options import check_options
    from serve.batch.run import BatchArguments, run_batch
    from serve.batch.tables import require_parquet
    from serve.environment import load_settings
    from serve.video.limits import num_processors

    formats: tuple[Any, ...] = ("parquet", "jsonl") if output_format == "both" else (output_format,)
    document = merge_options(options, {"candidate_labels": labels, "vocabulary": vocabulary, "model": model})
    document = check_options(kind, document, formats=formats, has_features=features)
    if "parquet" in formats:
        require_parquet("actserve batch with --format parquet")
    names = list_inputs(inputs, column=column, standard_input=read_list() if STANDARD_INPUT in inputs else ())
    overrides = {"model": document.get("model"), "repository": repository}
    settings = load_settings({name: value for name, value in overrides.items() if value is not None})
    settings.require_extras()
    num_workers = workers or settings.decode.workers or num_processors()
    settings = settings.model_copy(update={"decode": settings.decode.model_copy(update={"workers": num_workers})})
    arguments = BatchArguments(
        kind=kind,
        names=names,
        options=document,
        out=out,
        formats=formats,
        has_features=features,
        inputs_per_part=part_size,
        workers=num_workers,
        retries_errors=retry_errors,
    )
    with _progress(output()) as report:
        counts = asyncio.run(run_batch(arguments, settings, report))
    document = counts.document()
    output().result({"out": str(out), **document}, SUMMARY.format_map(document))
    if counts.has_failures:
        output().note(f"the errors are in {out / 'errors'}")
        sys.exit(1)


@contextmanager
def _progress(shown: Output) -> Iterator[Any]:
    """Yield a function that shows the counts: a bar on a terminal, otherwise a line for each part."""
    with show_progress("processing", shown) as advance:
        last_done = -1

        def report(counts: Any, is_part_written: bool) -> None:
            nonlocal last_done
            advance(counts.done, counts.total)
            if is_part_written and not shown.shows_progress and counts.done != last_done:
                last_done = counts.done
                failed = counts.failed + counts.failed_before
                shown.note(f"{counts.done} of {counts.total} inputs, {failed} failed")

        yield report
