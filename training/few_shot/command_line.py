"""The command `few-shot`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import click
import typer
from typer.core import TyperCommand

from serve.errors import ActserveError
from training.config import ConfigError
from training.data.command_line import Classes, Root, SourceOf, Workers
from training.data.many import processors

NUMBERS = ("--shots", "--seeds")


class FewShotCommand(TyperCommand):
    """Lets an option take several numbers: `--shots 2 4 8`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse after joining the numbers that follow such an option into one value."""
        return super().parse_args(ctx, joined(args))


def joined(words: Sequence[str]) -> list[str]:
    """`--shots 2 4 LIST` -> `--shots`, `2 4`, `LIST`."""
    found: list[str] = []
    is_open = False  # the last word is the value of such an option
    for word in words:
        if is_open and word.isdecimal():
            found[-1] += f" {word}"
            continue
        is_open = bool(found) and found[-1] in NUMBERS
        found.append(word)
    return found


def few_shot(
    model: Annotated[str, typer.Argument(help="A checkpoint of any format, or, with --repository, NAME[@VERSION].")],
    listing: Annotated[Path, typer.Argument(metavar="LIST", help="A list, CSV or folder to draw from.", exists=True)],
    shots: Annotated[str, typer.Option(help="Examples of each class, e.g. `2 4 8 16` or `2,4`.")] = "2 4 8 16",
    seeds: Annotated[str, typer.Option(help="Seeds of the draws, e.g. `0 1 2`.")] = "0 1 2",
    test: Annotated[
        Path | None, typer.Option(help="A list to judge by; without it what no draw of a seed takes.", exists=True)
    ] = None,
    source: SourceOf = "",
    classes: Classes = None,
    root: Root = None,
    repository: Annotated[
        Path | None, typer.Option(help="Folder of exported models: MODEL is one of them.", exists=True, file_okay=False)
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json, where the model has one of its own.", exists=True)
    ] = None,
    cache: Annotated[Path, typer.Option(help="Folder of the features.", file_okay=False)] = Path(
        "~/.cache/actserve/few_shot"
    ),
    out: Annotated[Path, typer.Option(help="Folder of the lists and of result.json.", file_okay=False)] = Path(
        "runs/few_shot"
    ),
    vocabulary: Annotated[
        str | None, typer.Option(help="Print the commands that give a server these shots, under this name.")
    ] = None,
    max_bad_share: Annotated[float, typer.Option(min=0, max=0.999, help="Share of unreadable videos.")] = 0.05,
    device: Annotated[str, typer.Option(help="Of a checkpoint: cpu, cuda ...; auto: a GPU if there is one.")] = "auto",
    workers: Workers = 0,
) -> None:
    """Fit prototypes and a linear head on a few examples of each class; features are encoded once and kept."""
    from training.checkpoints.own import CheckpointError
    from training.few_shot.main import Order, run
    from training.models.base import ModelConfigError

    order = Order(
        model=model,
        repository=repository,
        listing=listing,
        shots=_numbers(shots),
        seeds=_numbers(seeds),
        test=test,
        kind=source,
        classes=classes,
        root=root,
        tokenizer=tokenizer,
        cache=cache,
        out=out,
        vocabulary=vocabulary,
        device=device,
        workers=workers or processors(),
        max_bad_share=max_bad_share,
    )
    try:
        run(order)
    except (CheckpointError, ModelConfigError, ActserveError) as error:  # the last: a class name no prompt can hold
        raise ConfigError(str(error)) from error


def _numbers(text: str) -> tuple[int, ...]:
    words = text.replace(",", " ").split()
    if not all(word.isdecimal() for word in words):
        raise ConfigError(f"numbers are needed, found {text!r}")
    return tuple(dict.fromkeys(map(int, words)))
