"""The commands for data sets: prepare, shard, check."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from serve.lists.errors import AnnotationError
from training.config import ConfigError
from training.data.decoding.pool import processors

if TYPE_CHECKING:
    from training.data.lists.rows import Listing

Workers = Annotated[int, typer.Option(min=0, max=256, help="Decode processes; 0: one per processor.")]
Deadline = Annotated[float, typer.Option(min=0.1, max=36000, help="Time limit per video, seconds.")]
Classes = Annotated[
    Path | None,
    typer.Option(help="Class list, e.g. a CSV `id,name`; lists of numbers need it.", exists=True, dir_okay=False),
]
Root = Annotated[
    Path | None, typer.Option(help="Base folder of relative paths; default: the folder of the list.", file_okay=False)
]


def kind_of_list(text: str) -> str:
    """Check the name of a kind of list; empty if detected from the path."""
    from training.data.lists.listing import KINDS

    if text not in ("", "shards", *KINDS):
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(KINDS)}, shards")
    return text


SourceOf = Annotated[
    str,
    typer.Option(
        parser=kind_of_list,
        metavar="KIND",
        help="frames, videos, csv, folder, feedback, shards, or a published data set: ucf101, hmdb51, kinetics, ssv2, "
        "ntu; default: detected from the path.",
    ),
]
Fold = Annotated[str, typer.Option(help="For ucf101 and hmdb51: 1, 2 or 3; for ntu: xsub, xview or xset.")]
FirstLabel = Annotated[
    int | None, typer.Option(min=0, max=1, help="First label of a list of numbers; default: as in its class list.")
]
Split = Annotated[str, typer.Option(help="Part of a list with parts: train, val or test.")]


def show_layout(listing: "Listing") -> None:
    """Print how a list was interpreted."""
    for line in listing.layout():
        typer.echo(line, err=True)


def prepare(
    videos: Annotated[
        Path, typer.Argument(help="Class folders, a folder with index.csv, a CSV or another list.", exists=True)
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the data set.", file_okay=False)],
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality of the frames.")] = 95,
    short_side: Annotated[int, typer.Option(min=0, max=4320, help="Shorter side, pixels; 0 keeps the size.")] = 256,
    lists_only: Annotated[bool, typer.Option("--lists-only", help="Write only lists of videos, no frames.")] = False,
    val: Annotated[float, typer.Option(min=0, max=0.9, help="Share of each class for validation.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=0.9, help="Share of each class for test.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the split.")] = 0,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Compare pictures, so that recoded copies are in one part.")
    ] = False,
    source: SourceOf = "",
    classes: Classes = None,
    root: Root = None,
    fold: Fold = "",
    first_label: FirstLabel = None,
    workers: Workers = 0,
    deadline: Deadline = 600.0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Retry videos that failed before.")] = False,
) -> None:
    """Extract frames, split, and write the lists of both systems; resumes a stopped run."""
    from training.data.lists.rows import ListOptions
    from training.data.prepare import FrameOptions, PrepareError, SplitShares
    from training.data.prepare import prepare as run

    if val + test > 0.9:
        raise ConfigError(f"--val and --test: at most 0.9 together, found {val + test:g}")
    try:
        counts = run(
            videos,
            out,
            pictures=None if lists_only else FrameOptions(quality=quality, short_side=short_side),
            parts=SplitShares(val=val, test=test, seed=seed, near_duplicates=near_duplicates),
            options=ListOptions(kind=source, root=root, fold=fold, first_label=first_label),
            classes=classes,
            show=lambda lines: typer.echo("\n".join(lines), err=True),
            workers=workers or processors(),
            deadline_seconds=deadline,
            retry_failed=retry_failed,
        )
    except (PrepareError, AnnotationError) as error:
        raise ConfigError(str(error)) from error
    if counts["failed"]:
        typer.echo(f"{counts['failed']} videos cannot be used: {out / 'failures.jsonl'}", err=True)
    typer.echo(json.dumps(counts))


def shard(
    listing: Annotated[Path, typer.Argument(metavar="LIST", help="Any kind of list.", exists=True)],
    out: Annotated[Path, typer.Argument(help="Folder for the shards, new or empty.", file_okay=False)],
    source: SourceOf = "",
    classes: Classes = None,
    root: Root = None,
    fold: Fold = "",
    first_label: FirstLabel = None,
    split: Split = "",
    samples_per_shard: Annotated[int, typer.Option(min=1, help="Samples of a tar file.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the order.")] = 0,
) -> None:
    """Write WebDataset shards."""
    from training.data.lists.labels import entries_of, index_labels
    from training.data.lists.listing import read_listing, rows_of_part
    from training.data.lists.rows import ListOptions
    from training.data.shards.writing import write_shards

    try:
        found = read_listing(listing, ListOptions(kind=source, root=root, fold=fold))
        show_layout(found)
        read = index_labels(rows_of_part(found, split, option="--split"), found, classes, first_label=first_label)
        entries = entries_of(read.rows, read.names)
        index = write_shards(entries, read.names, out, samples_per_shard=samples_per_shard, seed=seed)
    except AnnotationError as error:
        raise ConfigError(str(error)) from error
    for failure in index["failures"]:
        typer.echo(f"{failure['path']}: {failure['reason']}", err=True)
    typer.echo(
        json.dumps({"shards": len(index["shards"]), "samples": index["samples"], "failed": len(index["failures"])})
    )


def check(
    lists: Annotated[list[Path], typer.Argument(metavar="LIST...", help="Lists, CSV files, folders, shards.")],
    source: SourceOf = "",
    classes: Classes = None,
    root: Root = None,
    fold: Fold = "",
    first_label: FirstLabel = None,
    system: Annotated[Literal["plain", "actionclip", "xclip"], typer.Option(help="Sampling and cuts.")] = "actionclip",
    config: Annotated[
        Path | None, typer.Option(help="YAML of a run, to use its data section.", exists=True, dir_okay=False)
    ] = None,
    image_size: Annotated[int, typer.Option(min=16, max=1024, help="S, pixels.")] = 224,
    num_frames: Annotated[int, typer.Option(min=1, max=256, help="T.")] = 8,
    samples: Annotated[int, typer.Option(min=0, max=400, help="Rows of the contact sheet.")] = 16,
    sheet: Annotated[
        Path | None, typer.Option(help="PNG to write; default: contact_sheet.png by the first list.", dir_okay=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of rows and of their augmentation.")] = 0,
    max_bad_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of unreadable entries that is accepted.")
    ] = 0.05,
    workers: Workers = 0,
    deadline: Deadline = 30.0,
) -> None:
    """Read every entry as training does; exit status 1 if training would fail."""
    from training.config import DataConfig, load_config
    from training.data.checking.check import check_lists
    from training.data.lists.rows import ListOptions

    for listing in lists:
        if not listing.exists() and not set("*?[{") & set(str(listing)):  # shards may be given by patterns
            raise ConfigError(f"there is no {listing}")
    data = (
        load_config(config).data
        if config is not None
        else DataConfig(
            system=system,
            image_size=image_size,
            num_frames=num_frames,
            deadline_seconds=deadline,
            max_bad_share=min(max_bad_share, 0.999),
        )
    )
    is_fit = check_lists(
        lists,
        data,
        options=ListOptions(kind=source, root=root, fold=fold, first_label=first_label),
        classes=classes,
        samples=samples,
        sheet=sheet or lists[0].absolute().parent / "contact_sheet.png",
        seed=seed,
        workers=workers or processors(),
    )
    raise typer.Exit(0 if is_fit else 1)
