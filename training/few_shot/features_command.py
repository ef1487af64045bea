"""The command `features`: the features of every video of a list under a model, as one NumPy file.

python -m training features runs/demo/checkpoint.pt val/index.csv --out features.npz
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve.errors import ActserveError
from training.config import ConfigError
from training.data.command_line import Classes, FirstLabel, Fold, Root, SourceOf, Split, Workers
from training.data.decoding.pool import processors
from training.data.lists.rows import ListOptions
from training.few_shot.command_line import (
    DEFAULT_CACHE,
    Activation,
    Cache,
    Device,
    MaxBadShare,
    Model,
    Repository,
    Tokenizer,
)

if TYPE_CHECKING:
    from training.few_shot.main import FewShotOptions

SUFFIX = ".npz"


def features(
    model: Model,
    listing: Annotated[Path, typer.Argument(metavar="LIST", help="A list, CSV or folder of videos.", exists=True)],
    out: Annotated[Path, typer.Option(help="File for the arrays, .npz.", dir_okay=False)],
    source: SourceOf = "",
    classes: Classes = None,
    root: Root = None,
    split: Split = "",
    fold: Fold = "",
    first_label: FirstLabel = None,
    repository: Repository = None,
    tokenizer: Tokenizer = None,
    activation: Activation = None,
    cache: Cache = DEFAULT_CACHE,
    max_bad_share: MaxBadShare = 0.05,
    device: Device = "auto",
    workers: Workers = 0,
) -> None:
    """Write the features of a list: one clip and the centre crop of each video, as the server looks at examples.

    Arrays: `video_features` [N, D], `prototype_features` [N, E] where the model gives them, `text_features` of the
    class names [M, K, D], `labels` [N], `paths` [N], `sha256` [N], `classes` [K]. The last line is one JSON document.
    """
    from training.checkpoints.native_format import CheckpointError
    from training.few_shot.main import FewShotOptions
    from training.models.base import ModelConfigError

    if out.suffix != SUFFIX:
        raise ConfigError(f"--out {out}: a file that ends in {SUFFIX} is needed")
    order = FewShotOptions(
        model=model, repository=repository, listing=listing, shots=(1,), seeds=(0,), test=None,
        list_options=ListOptions(kind=source, root=root, fold=fold, first_label=first_label), split=split,
        test_split="",
        classes=classes, tokenizer=tokenizer, activation=activation, cache=cache, out=out.parent,
        vocabulary=None, device=device, workers=workers or processors(), max_bad_share=max_bad_share,
    )  # fmt: skip
    try:
        typer.echo(json.dumps(_written(order, out)))
    except (CheckpointError, ModelConfigError, ActserveError) as error:
        raise ConfigError(str(error)) from error


def _written(order: "FewShotOptions", out: Path) -> dict[str, object]:
    """Encode, write, and say what was written."""
    import numpy as np

    from serve.files import atomic_write
    from serve.independence import count_independent
    from training.few_shot.encoding import VideoEncoder
    from training.few_shot.main import FewShotLists, groups_of, open_model

    lists, towers = FewShotLists.read(order), open_model(order)
    encoder = VideoEncoder(towers, cache=order.cache)
    try:
        found = encoder.encode(lists.pool, workers=order.workers, max_bad_share=order.max_bad_share)
        bank = encoder.bank(lists.names)
    finally:
        encoder.close()
    independent = count_independent(groups_of(found), digests=found.digests)
    parts = towers.layout.unpack(found.rows)
    arrays: dict[str, Any] = {
        "video_features": parts.video_features,
        "text_features": bank,
        "labels": np.array([entry.label for entry in found.entries], np.int64),
        "paths": np.array([str(entry.path) for entry in found.entries]),
        "sha256": np.array(found.digests),
        "classes": np.array(lists.names),
    }
    if parts.prototype_features is not None:
        arrays["prototype_features"] = parts.prototype_features
    try:
        with atomic_write(out) as partial, partial.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written: {error.strerror}") from error
    return {
        "out": str(out),
        "model": order.model,
        "identity": towers.identity,
        "videos": len(found.entries),
        "independent": independent.num_independent,
        "copies": independent.num_copies,
        "unreadable": len(lists.pool) - len(found.entries),
        "arrays": {name: list(array.shape) for name, array in arrays.items()},
    }
