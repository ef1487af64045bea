"""Few-shot accuracy of a frozen model: K examples of each class in addition to text.

    python -m training few-shot runs/demo/checkpoint.pt clips/index.csv --shots 2,4,8,16 --seeds 0,1,2
    python -m training few-shot demo clips/index.csv --repository model_repository

Every video is encoded once. Prints a table and, as the last line, the document of `result.json`.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from serve.arrays import Float32Array, Int64Array
from serve.contract import ScoringContract
from serve.features import RowLayout
from serve.lists.errors import AnnotationError
from serve.served_model import ServedModel
from training.config import ConfigError
from training.data.failure_file import write_lines
from training.data.lists.labels import entries_of, index_labels, index_labels_like, with_known_names
from training.data.lists.listing import read_listing, rows_of_part
from training.data.lists.rows import Entry, ListOptions
from training.data.lists.shots import ShotSample, sample_shots
from training.devices import select_device
from training.few_shot.encoding import EncodedVideos, VideoEncoder
from training.few_shot.lists import twin_rows, write_classes, write_lists
from training.few_shot.methods import METHODS, VideoSet, accuracy
from training.few_shot.models import CheckpointModel, FewShotModel
from training.few_shot.report import ZERO_SHOT, print_report, server_commands, summary_of


@dataclass(frozen=True, kw_only=True)
class FewShotOptions:
    """Options of a few-shot evaluation."""

    model: str  # file of a checkpoint, or NAME[@VERSION] in `repository`
    repository: Path | None
    listing: Path
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    test: Path | None
    list_options: ListOptions
    split: str  # part of the list to sample from
    test_split: str  # part of the list to test on
    classes: Path | None
    tokenizer: Path | None
    activation: str | None  # of CLIP's towers, if a foreign file does not contain it
    cache: Path
    out: Path
    vocabulary: str | None  # vocabulary on a server to print commands for
    device: str  # device of a checkpoint
    workers: int
    max_bad_share: float

    def __post_init__(self) -> None:
        if not self.shots or min(self.shots) < 1 or not self.seeds or min(self.seeds) < 0:
            raise ConfigError(
                f"--shots: numbers from 1, --seeds: numbers from 0, found {list(self.shots)}, {list(self.seeds)}"
            )


@dataclass(frozen=True, kw_only=True)
class FewShotLists:
    """The lists that were read."""

    names: tuple[str, ...]
    pool: list[Entry]  # entries to sample shots from
    twin: list[Entry] | None  # the same videos in the other format
    test: list[Entry] | None  # None: the rest of the pool

    @classmethod
    def read(cls, options: FewShotOptions) -> "FewShotLists":
        """Read the lists; raise AnnotationError if one cannot be read or the classes do not fit."""
        listing = read_listing(options.listing, options.list_options)
        read = index_labels(
            rows_of_part(listing, options.split, option="--split"),
            listing,
            options.classes,
            first_label=options.list_options.first_label,
        )
        names, layout = read.names, listing.layout()
        twin = twin_rows(options.listing, listing.rows, kind=listing.kind, list_options=options.list_options)
        if twin is not None:
            twin = [replace(row, label=each.label) for row, each in zip(twin, read.rows, strict=True)]
        test = None
        if options.test is not None:
            judged = read_listing(options.test, options.list_options)
            rows = rows_of_part(judged, options.test_split, option="--test-split")
            test = entries_of(index_labels_like(read, rows, judged, options.classes), names)
            layout += judged.layout()
        elif options.test_split:
            raise ConfigError("--test-split needs a list --test")
        for line in layout:
            print(line, file=sys.stderr)
        return cls(
            names=names,
            pool=entries_of(with_known_names(read.rows, names), names),
            twin=None if twin is None else entries_of(twin, names),
            test=test,
        )


@dataclass(frozen=True, kw_only=True)
class EncodedLists:
    """The encoded videos of the pool and of the test list."""

    pool: EncodedVideos
    test: EncodedVideos  # the pool if there is no test list
    pool_videos: VideoSet
    test_videos: VideoSet

    @property
    def encoded(self) -> tuple[EncodedVideos, ...]:
        """Return each list once."""
        return (self.pool,) if self.test is self.pool else (self.pool, self.test)

    def test_indices(self, draw: ShotSample) -> Int64Array:
        """Return the indices of test videos for a sample, without videos of equal content to a shot."""
        shown = {self.pool.digests[place] for place in draw.chosen}
        places = draw.rest if self.test is self.pool else range(len(self.test.entries))
        return np.array([place for place in places if self.test.digests[place] not in shown], np.int64)


def run(options: FewShotOptions) -> dict[str, Any]:
    """Evaluate, write the lists and `result.json`, print the table; return the document.

    Raises:
        ConfigError, AnnotationError, CheckpointError, TooManyBadVideosError: the input cannot be used.
    """
    lists = FewShotLists.read(options)
    model = open_model(options)
    encoded_lists = _encode_lists(options, lists, model)
    started = time.perf_counter()
    draws = _sample_all(options, lists, encoded_lists.pool)
    rows = [_evaluate_draw(draw, encoded_lists, model.scoring, names=lists.names) for draw in draws]
    seconds = {
        "encoding": round(sum(part.seconds for part in encoded_lists.encoded), 3),
        "fitting": round(sum(item["seconds"] for row in rows for item in row["methods"].values()), 3),
        "all_after_encoding": round(time.perf_counter() - started, 3),
    }
    num_read = sum(len(part.entries) for part in encoded_lists.encoded)
    document = {
        "model": {"model": options.model, "identity": model.identity, "family": model.family},
        "list": str(options.listing),
        "test": None if options.test is None else str(options.test),
        "classes": len(lists.names),
        "templates": list(model.text.templates),
        "features": _features_named(model.layout),
        "videos": num_read,
        "unreadable": len(lists.pool) + len(lists.test or ()) - num_read,
        "videos_encoded": sum(part.num_encoded for part in encoded_lists.encoded),
        "summary": summary_of(rows),
        "draws": rows,
        "seconds": seconds,
    }
    for draw in draws:
        _write(_folder(options, draw), lists, draw, encoded_lists)
    write_lines(options.out / "result.json", [json.dumps(document, indent=1)])
    if options.vocabulary is not None:
        _print_server_commands(options, options.vocabulary, lists, draws, encoded_lists.pool)
    if lists.twin is None:
        print("lists: only in the given format; for both, give a list with a twin (videos_*.txt beside frames_*.txt)")
    print_report(document, num_seeds=len(options.seeds))
    return document


def _features_named(layout: RowLayout) -> str:
    if layout.prototype_dim:
        return "prototype features"
    return "video features before the prompt head" if layout.num_patches else "video features"


def open_model(options: FewShotOptions) -> FewShotModel:
    if options.repository is not None:
        if options.activation is not None or options.tokenizer is not None:
            raise ConfigError("--activation and --tokenizer are for checkpoints, not for models of --repository")
        return ServedModel.open(options.repository, options.model)
    return CheckpointModel(
        Path(options.model),
        tokenizer=options.tokenizer,
        device=select_device(options.device, key="--device"),
        activation=options.activation,
    )


def _encode_lists(options: FewShotOptions, lists: FewShotLists, model: FewShotModel) -> EncodedLists:
    encoder = VideoEncoder(model, cache=options.cache)
    try:
        pool = encoder.encode(lists.pool, workers=options.workers, max_bad_share=options.max_bad_share)
        test = pool
        if lists.test is not None:
            test = encoder.encode(lists.test, workers=options.workers, max_bad_share=options.max_bad_share)
        bank = encoder.bank(lists.names)
        pool_videos = _videos(encoder, pool, bank)
        test_videos = pool_videos if test is pool else _videos(encoder, test, bank)
    finally:
        encoder.close()
    return EncodedLists(pool=pool, test=test, pool_videos=pool_videos, test_videos=test_videos)


def _videos(encoder: VideoEncoder, encoded: EncodedVideos, bank: Float32Array) -> VideoSet:
    if not encoded.entries:
        raise AnnotationError("no video of the list can be read")
    return VideoSet(
        features=encoder.features(encoded.rows),
        text_logits=encoder.text_logits(encoded.rows, bank),
        labels=np.array([entry.label for entry in encoded.entries], np.int64),
    )


def _sample_all(options: FewShotOptions, lists: FewShotLists, pool: EncodedVideos) -> list[ShotSample]:
    """Sample the shots of all seeds; without a test list, each class keeps a video for testing."""
    draws = [
        draw
        for seed in options.seeds
        for draw in sample_shots(
            pool.entries,
            len(lists.names),
            shots=options.shots,
            seed=seed,
            spared=1 if options.test is None else 0,
        )
    ]
    if not any(draw.chosen for draw in draws):
        raise AnnotationError(f"{options.listing}: no class has enough videos for a shot")
    return draws


def _evaluate_draw(
    draw: ShotSample, encoded_lists: EncodedLists, contract: ScoringContract, *, names: Sequence[str]
) -> dict[str, Any]:
    """Evaluate each method on the test videos of one sample."""
    shots = encoded_lists.pool_videos.part(np.array(draw.chosen, np.int64))
    test_indices = encoded_lists.test_videos.part(encoded_lists.test_indices(draw))
    if not len(test_indices.labels):
        raise AnnotationError("no video is left to test on; use fewer shots, or --test LIST")
    methods: dict[str, Any] = {}
    for name, fit in METHODS.items():
        started = time.perf_counter()
        gain, facts = fit(shots, contract)
        seconds = time.perf_counter() - started
        top1 = accuracy(test_indices, gain(test_indices.features), contract)
        methods[name] = {"top1": round(top1, 4), "seconds": round(seconds, 3), "fit": dict(facts)}
    return {
        "shots": draw.shots,
        "seed": draw.seed,
        "num_shots": len(draw.chosen),
        "num_judged": len(test_indices.labels),
        "short_classes": {names[label]: count for label, count in draw.short.items()},
        ZERO_SHOT: round(accuracy(test_indices, None, contract), 4),
        "methods": methods,
    }


def _folder(options: FewShotOptions, draw: ShotSample) -> Path:
    return options.out / f"{draw.shots}_shots_seed_{draw.seed}"


def _write(folder: Path, lists: FewShotLists, draw: ShotSample, encoded_lists: EncodedLists) -> None:
    """Write the lists of a sample in each available format."""
    test_indices = encoded_lists.test_indices(draw)
    write_classes(folder / "classes.csv", lists.names)
    write_lists(folder, "train", [encoded_lists.pool.entries[place] for place in draw.chosen])
    write_lists(folder, "test", [encoded_lists.test.entries[place] for place in test_indices])
    if lists.twin is not None:
        write_lists(folder, "train", [lists.twin[encoded_lists.pool.places[place]] for place in draw.chosen])
        if encoded_lists.test is encoded_lists.pool:
            write_lists(folder, "test", [lists.twin[encoded_lists.pool.places[place]] for place in test_indices])


def _print_server_commands(
    options: FewShotOptions, vocabulary: str, lists: FewShotLists, draws: Sequence[ShotSample], pool: EncodedVideos
) -> None:
    """Print the commands for the largest sample of the first seed."""
    draw = max((draw for draw in draws if draw.seed == options.seeds[0]), key=lambda draw: draw.shots)
    labels = _folder(options, draw) / "labels.txt"
    write_lines(labels, lists.names)
    print(f"to fit these prototypes on a server ({draw.shots} shots, seed {draw.seed}):")
    for line in server_commands(
        vocabulary, labels.absolute(), lists.names, [pool.entries[place] for place in draw.chosen]
    ):
        print(f"  {line}")
