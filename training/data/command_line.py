"""The commands for data sets: `prepare`, `shard` and `check`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from serve.lists.errors import AnnotationError
from training.config import ConfigError
from training.data.decoding.pool import num_processors

if TYPE_CHECKING:
    from training.data.lists.rows import Listing

Workers = Annotated[int, typer.Option(min=0, max=256, help="Number of decode processes; 0: one per processor.")]
Deadline = Annotated[float, typer.Option(min=0.1, max=36000, help="Time limit per video, seconds.")]
Classes = Annotated[
    Path | None,
    typer.Option(
        help="Class list, e.g. a CSV `id,name`; required if the labels are numbers.", exists=True, dir_okay=False
    ),
]
Root = Annotated[
    Path | None, typer.Option(help="Base folder of relative paths; default: the folder of the list.", file_okay=False)
]


def parse_list_kind(text: str) -> str:
    """Return the kind of a list; raise if it is unknown. An empty text means that the kind is detected."""
    from training.data.lists.listing import KINDS

    if text not in ("", "shards", *KINDS):
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(KINDS)}, shards")
    return text


ListKind = Annotated[
    str,
    typer.Option(
        parser=parse_list_kind,
        metavar="KIND",
        help="frames, videos, csv, folder, feedback, shards, or a published data set: ucf101, hmdb51, kinetics, ssv2, "
        "ntu; default: detected from the path.",
    ),
]
Fold = Annotated[str, typer.Option(help="For ucf101 and hmdb51: 1, 2 or 3; for ntu: xsub, xview or xset.")]
FirstLabel = Annotated[
    int | None,
    typer.Option(min=0, max=1, help="First label if the labels are numbers; default: first id of the classes."),
]
Split = Annotated[str, typer.Option(help="Split to use, if the list has splits: train, val or test.")]


def print_layout(listing: "Listing") -> None:
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
    val: Annotated[float, typer.Option(min=0, max=0.9, help="Fraction of each class for validation.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=0.9, help="Fraction of each class for test.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Compare frames, so that re-encoded copies are in the same split.")
    ] = False,
    source: ListKind = "",
    classes: Classes = None,
    root: Root = None,
    fold: Fold = "",
    first_label: FirstLabel = None,
    workers: Workers = 0,
    deadline: Deadline = 600.0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Retry videos that failed before.")] = False,
) -> None:
    """Extract frames, split the data set, and write the lists of ActionCLIP and X-CLIP; resumes a stopped run."""
    from training.data.lists.rows import ListOptions
    from training.data.prepare import FrameOptions, PrepareError, SplitOptions
    from training.data.prepare import prepare as run

    if val + test > 0.9:
        raise ConfigError(f"the sum of --val and --test must be at most 0.9, got {val + test:g}")
    try:
        counts = run(
            videos,
            out,
            frame_options=None if lists_only else FrameOptions(quality=quality, short_side=short_side),
            split_options=SplitOptions(val=val, test=test, seed=seed, near_duplicates=near_duplicates),
            list_options=ListOptions(kind=source, root=root, fold=fold, first_label=first_label),
            classes=classes,
            on_message=lambda lines: typer.echo("\n".join(lines), err=True),
            workers=workers or num_processors(),
            deadline_seconds=deadline,
            retry_failed=retry_failed,
        )
    except (PrepareError, AnnotationError) as error:
        raise ConfigError(str(error)) from error
    if counts["failed"]:
        typer.echo(f"{counts['failed']} videos cannot be used; see {out / 'failures.jsonl'}", err=True)
    typer.echo(json.dumps(counts))


def shard(
    listing: Annotated[Path, typer.Argument(metavar="LIST", help="Any kind of list.", exists=True)],
    out: Annotated[Path, typer.Argument(help="Folder for the shards, new or empty.", file_okay=False)],
    source: ListKind = "",
    classes: Classes = None,
    root: Root = None,
    fold: Fold = "",
    first_label: FirstLabel = None,
    split: Split = "",
    samples_per_shard: Annotated[int, typer.Option(min=1, help="Maximum number of samples per tar file.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order of samples.")] = 0,
) -> None:
    """Write the videos of a list as WebDataset shards."""
    from training.data.lists.labels import entries_of, index_labels
    from training.data.lists.listing import read_listing, rows_of_split
    from training.data.lists.rows import ListOptions
    from training.data.shards.writing import write_shards

    try:
        content = read_listing(listing, ListOptions(kind=source, root=root, fold=fold))
        print_layout(content)
        rows = rows_of_split(content, split, option="--split")
        indexed = index_labels(rows, content, classes, first_label=first_label)
        entries = entries_of(indexed.rows, indexed.names)
        index = write_shards(entries, indexed.names, out, samples_per_shard=samples_per_shard, seed=seed)
    except AnnotationError as error:
        raise ConfigError(str(error)) from error
    for failure in index["failures"]:
        typer.echo(f"{failure['path']}: {failure['reason']}", err=True)
    typer.echo(
        json.dumps({"shards": len(index["shards"]), "samples": index["samples"], "failed": len(index["failures"])})
    )


def check(
    lists: Annotated[list[Path], typer.Argument(metavar="LIST...", help="Lists, CSV files, folders, shards.")],
    source: ListKind = "",
    classes: Classes = None,
    root: Root = None,
    fold: Fold = "",
    first_label: FirstLabel = None,
    system: Annotated[
        Literal["plain", "actionclip", "xclip"], typer.Option(help="System whose sampling and cropping is used.")
    ] = "actionclip",
    config: Annotated[
        Path | None, typer.Option(help="Configuration of a run; its data section is used.", exists=True, dir_okay=False)
    ] = None,
    image_size: Annotated[int, typer.Option(min=16, max=1024, help="Side of a crop, pixels.")] = 224,
    num_frames: Annotated[int, typer.Option(min=1, max=256, help="Frames per clip.")] = 8,
    samples: Annotated[int, typer.Option(min=0, max=400, help="Clips on the contact sheet; 0: no contact sheet.")] = 16,
    sheet: Annotated[
        Path | None,
        typer.Option(help="PNG to write; default: contact_sheet.png beside the first list.", dir_okay=False),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the clips on the contact sheet and their augmentation.")
    ] = 0,
    max_bad_share: Annotated[
        float, typer.Option(min=0, max=1, help="Largest accepted fraction of unreadable entries.")
    ] = 0.05,
    workers: Workers = 0,
    deadline: Deadline = 30.0,
) -> None:
    """Read every entry as training does; the exit status is 1 if training would fail."""
    from training.config import DataConfig, load_config
    from training.data.checking.check import check_lists
    from training.data.lists.rows import ListOptions

    for listing in lists:
        if not listing.exists() and not set("*?[{") & set(str(listing)):  # shards may be given as a pattern
            raise ConfigError(f"{listing} does not exist")
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
    can_train = check_lists(
        lists,
        data,
        options=ListOptions(kind=source, root=root, fold=fold, first_label=first_label),
        classes=classes,
        samples=samples,
        sheet=sheet or lists[0].absolute().parent / "contact_sheet.png",
        seed=seed,
        workers=workers or num_processors(),
    )
    raise typer.Exit(0 if can_train else 1)
