"""The command `few-shot`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from serve.errors import ActserveError
from training.config import ConfigError
from training.data.command_line import Classes, FirstLabel, Fold, ListKind, Root, Split, Workers
from training.data.decoding.pool import num_processors

Model = Annotated[str, typer.Argument(help="A checkpoint of any format; with --repository, NAME[@VERSION].")]
Repository = Annotated[
    Path | None, typer.Option(help="Model repository in which MODEL is looked up.", exists=True, file_okay=False)
]
Tokenizer = Annotated[
    Path | None, typer.Option(help="tokenizer.json of a model that does not use CLIP's tokenizer.", exists=True)
]
Activation = Annotated[
    Literal["quick_gelu", "gelu"] | None,
    typer.Option(help="Activation of CLIP's towers, if it cannot be determined from the checkpoint."),
]
Cache = Annotated[Path, typer.Option(help="Folder in which features are cached.", file_okay=False)]
DEFAULT_CACHE = Path("~/.cache/actserve/few_shot")
MaxUnreadableFraction = Annotated[float, typer.Option(min=0, max=0.999, help="Maximum fraction of unreadable videos.")]
Device = Annotated[str, typer.Option(help="Device for a checkpoint: cpu, cuda, ...; auto: a GPU if available.")]


def few_shot(
    model: Model,
    listing: Annotated[
        Path,
        typer.Argument(
            metavar="LIST",
            help="Annotation file (text or CSV), or folder of class folders, to sample from.",
            exists=True,
        ),
    ],
    shots: Annotated[str, typer.Option(metavar="N,N", help="Numbers of examples per class.")] = "2,4,8,16",
    seeds: Annotated[str, typer.Option(metavar="N,N", help="Seeds for sampling the examples.")] = "0,1,2",
    test: Annotated[
        Path | None,
        typer.Option(
            help="Annotation file or folder to test on; default: the videos that are not sampled.", exists=True
        ),
    ] = None,
    split: Split = "",
    test_split: Annotated[str, typer.Option(help="Split of the --test list, if it has splits.")] = "",
    source: ListKind = "",
    classes: Classes = None,
    root: Root = None,
    fold: Fold = "",
    first_label: FirstLabel = None,
    repository: Repository = None,
    tokenizer: Tokenizer = None,
    activation: Activation = None,
    cache: Cache = DEFAULT_CACHE,
    out: Annotated[Path, typer.Option(help="Folder for the lists and result.json.", file_okay=False)] = Path(
        "runs/few_shot"
    ),
    vocabulary: Annotated[
        str | None, typer.Option(help="Print commands that add the examples to this vocabulary on a server.")
    ] = None,
    max_bad_share: MaxUnreadableFraction = 0.05,
    device: Device = "auto",
    workers: Workers = 0,
) -> None:
    """Evaluate prototypes and a linear head that are fitted to a few examples of each class; features are cached."""
    from training.checkpoints.native_format import CheckpointError
    from training.data.lists.rows import ListOptions
    from training.few_shot.main import FewShotOptions, run
    from training.models.base import ModelConfigError

    options = FewShotOptions(
        model=model,
        repository=repository,
        listing=listing,
        shots=_parse_numbers("--shots", shots),
        seeds=_parse_numbers("--seeds", seeds),
        test=test,
        list_options=ListOptions(kind=source, root=root, fold=fold, first_label=first_label),
        split=split,
        test_split=test_split,
        classes=classes,
        tokenizer=tokenizer,
        activation=activation,
        cache=cache,
        out=out,
        vocabulary=vocabulary,
        device=device,
        workers=workers or num_processors(),
        max_bad_share=max_bad_share,
    )
    try:
        run(options)
    except (CheckpointError, ModelConfigError, ActserveError) as error:  # ActserveError: e.g. an invalid class name
        raise ConfigError(str(error)) from error


def _parse_numbers(option: str, text: str) -> tuple[int, ...]:
    """Parse comma-separated whole numbers; duplicates are removed."""
    fields = [field.strip() for field in text.split(",")]
    if not all(field.isascii() and field.isdecimal() for field in fields):
        raise ConfigError(f"{option} must be whole numbers separated by commas, such as 2,4,8, got {text!r}")
    return tuple(dict.fromkeys(map(int, fields)))
