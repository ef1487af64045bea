"""The command `features`: encode every video of a list with a model, and write the features to one NumPy file.

python -m training features runs/demo/checkpoint.pt val/index.csv --out features.npz
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve.errors import ActserveError
from training.config import ConfigError
from training.data.command_line import Classes, FirstLabel, Fold, ListKind, Root, Split, Workers
from training.data.decoding.pool import num_processors
from training.data.lists.rows import ListOptions
from training.few_shot.command_line import (
    DEFAULT_CACHE,
    Activation,
    Cache,
    Device,
    MaxUnreadableFraction,
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
    source: ListKind = "",
    classes: Classes = None,
    root: Root = None,
    split: Split = "",
    fold: Fold = "",
    first_label: FirstLabel = None,
    repository: Repository = None,
    tokenizer: Tokenizer = None,
    activation: Activation = None,
    cache: Cache = DEFAULT_CACHE,
    max_bad_share: MaxUnreadableFraction = 0.05,
    device: Device = "auto",
    workers: Workers = 0,
) -> None:
    """Write the features of the videos in a list, from one clip and the centre crop of each video.

    The server encodes example clips in the same way. Arrays: `video_features` [N, D], `prototype_features` [N, E] if
    the model has them, `text_features` of the class names [M, K, D], `labels` [N], `paths` [N], `sha256` [N],
    `classes` [K]. The last line of the output is a JSON document.
    """
    from training.checkpoints.native_format import CheckpointError
    from training.few_shot.main import FewShotOptions
    from training.models.base import ModelConfigError

    if out.suffix != SUFFIX:
        raise ConfigError(f"--out must be a file with the suffix {SUFFIX}, got {out}")
    options = FewShotOptions(
        model=model, repository=repository, listing=listing, shots=(1,), seeds=(0,), test=None,
        list_options=ListOptions(kind=source, root=root, fold=fold, first_label=first_label), split=split,
        test_split="",
        classes=classes, tokenizer=tokenizer, activation=activation, cache=cache, out=out.parent,
        vocabulary=None, device=device, workers=workers or num_processors(), max_bad_share=max_bad_share,
    )  # fmt: skip
    try:
        typer.echo(json.dumps(_write_features(options, out)))
    except (CheckpointError, ModelConfigError, ActserveError) as error:
        raise ConfigError(str(error)) from error


def _write_features(options: "FewShotOptions", out: Path) -> dict[str, object]:
    """Encode the videos, write the arrays to `out`, and return a summary."""
    import numpy as np

    from serve.files import atomic_write
    from serve.independence import count_groups
    from training.few_shot.encoding import VideoEncoder
    from training.few_shot.main import FewShotLists, find_groups, open_model

    lists, model = FewShotLists.read(options), open_model(options)
    encoder = VideoEncoder(model, cache=options.cache)
    try:
        encoded = encoder.encode(lists.pool, workers=options.workers, max_bad_share=options.max_bad_share)
        bank = encoder.bank(lists.names)
    finally:
        encoder.close()
    counts = count_groups(find_groups(encoded), digests=encoded.digests)
    features = model.layout.unpack(encoded.vectors)
    arrays: dict[str, Any] = {
        "video_features": features.video_features,
        "text_features": bank,
        "labels": np.array([entry.label for entry in encoded.entries], np.int64),
        "paths": np.array([str(entry.path) for entry in encoded.entries]),
        "sha256": np.array(encoded.digests),
        "classes": np.array(lists.names),
    }
    if features.prototype_features is not None:
        arrays["prototype_features"] = features.prototype_features
    try:
        with atomic_write(out) as partial, partial.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written: {error.strerror}") from error
    return {
        "out": str(out),
        "model": options.model,
        "identity": model.identity,
        "videos": len(encoded.entries),
        "independent": counts.num_independent,
        "copies": counts.num_copies,
        "unreadable": len(lists.pool) - len(encoded.entries),
        "arrays": {name: list(array.shape) for name, array in arrays.items()},
    }
