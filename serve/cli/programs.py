"""`actserve train ...` and `actserve export ...`: run `python -m training` and `python -m export`.

They are separate processes, so that the commands of the server never import torch.
"""

import subprocess
import sys
from collections.abc import Sequence

import typer

from serve.extras import require_extra

FORWARD_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def train(context: typer.Context) -> None:
    """Train and evaluate models: the commands of `python -m training`; needs the extra `training`."""
    run_program("training", context.args, needed_by="actserve train")


def export(context: typer.Context) -> None:
    """Export checkpoints to a model repository: the commands of `python -m export`; needs the extra `export`."""
    run_program("export", context.args, needed_by="actserve export")


def run_program(name: str, arguments: Sequence[str], *, needed_by: str) -> None:
    """Run `python -m NAME`, which reports its own errors; `name` is also the name of its extra.

    Raises:
        MissingExtra: the extra is not installed.
        typer.Exit: the program failed; the exit status is the same.
    """
    require_extra(name, needed_by=needed_by)
    status = subprocess.run([sys.executable, "-m", name, *arguments], check=False).returncode
    if status != 0:
        raise typer.Exit(status if status > 0 else 128 - status)
