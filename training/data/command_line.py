"""The commands that make and check data sets: prepare, shard, check."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from serve.lists.errors import AnnotationError
from training.config import ConfigError
from training.data.decoding.pool import processors

if TYPE_CHECKING:
    from training.data.lists.rows import Listing

Workers = Annotated[int, typer.Option(min=0, max=256, help="Decode processes; 0: one for each processor.")]
Deadline = Annotated[float, typer.Option(min=0.1, max=36000, help="Seconds one video may take.")]
Classes = Annotated[
    Path | None,
    typer.Option(help="Class list, e.g. a CSV `id,name`; lists of numbers need it.", exists=True, dir_okay=False),
]
Root = Annotated[
    Path | None, typer.Option(help="Folder that relative paths start from; the list's own without it.", file_okay=False)
]


def kind_of_list(text: str) -> str:
    """Check the name of a kind of list; empty where the path tells it."""
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
        "ntu; found from the path where empty.",
    ),
]
Fold = Annotated[str, typer.Option(help="Of ucf101 and hmdb51: 1, 2 or 3; of ntu: xsub, xview or xset.")]
FirstLabel = Annotated[
    int | None, typer.Option(min=0, max=1, help="What the labels of a list of numbers count from; as its class list.")
]
Split = Annotated[str, typer.Option(help="Part of a list that names parts: train, val or test.")]


def show_layout(listing: "Listing") -> None:
    """Show how a list was understood, before anything is computed."""
    for line in listing.layout():
        typer.echo(line, err=True)


def prepare(
    videos: Annotated[
        Path, typer.Argument(help="Class folders, a folder with index.csv, a CSV or another list.", exists=True)
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the data set.", file_okay=False)],
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality of the frames.")] = 95,
    short_side: Annotated[int, typer.Option(min=0, max=4320, help="Shorter side, pixels; 0 keeps the size.")] = 256,
    lists_only: Annotated[bool, typer.Option("--lists-only", help="No frames: the lists of videos alone.")] = False,
    val: Annotated[float, typer.Option(min=0, max=0.9, help="Share of each class kept to evaluate on.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=0.9, help="Share of each class kept to test on.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the split.")] = 0,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Compare pictures: recoded copies stay in one part.")
    ] = False,
    source: SourceOf = "",
    classes: Classes = None,
    root: Root = None,
    fold: Fold = "",
    first_label: FirstLabel = None,
    workers: Workers = 0,
    deadline: Deadline = 600.0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = False,
) -> None:
    """Extract frames, split, and write the lists of both systems; a run that was stopped goes on."""
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
    out: Annotated[Path, typer.Argument(help="Folder for the shards, empty or absent.", file_okay=False)],
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
        Path | None, typer.Option(help="YAML of a run: its data section decides instead.", exists=True, dir_okay=False)
    ] = None,
    image_size: Annotated[int, typer.Option(min=16, max=1024, help="S, pixels.")] = 224,
    num_frames: Annotated[int, typer.Option(min=1, max=256, help="T.")] = 8,
    samples: Annotated[int, typer.Option(min=0, max=400, help="Rows of the contact sheet.")] = 16,
    sheet: Annotated[
        Path | None, typer.Option(help="PNG to draw; contact_sheet.png beside the first list.", dir_okay=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the rows that are drawn and of their augmentation.")] = 0,
    max_bad_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of unreadable entries that is let pass.")
    ] = 0.05,
    workers: Workers = 0,
    deadline: Deadline = 30.0,
) -> None:
    """Read every entry as training would, before an hour is lost; exit status 1 when training would break."""
    from training.config import DataConfig, load_config
    from training.data.checking.check import check_lists
    from training.data.lists.rows import ListOptions

    for listing in lists:
        if not listing.exists() and not set("*?[{") & set(str(listing)):  # shards are named by patterns
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
