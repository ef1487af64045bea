"""Few-shot accuracy of a model without training it: K examples of each class beside the text.

    python -m training few-shot runs/demo/checkpoint.pt clips/index.csv --shots 2,4,8,16 --seeds 0,1,2
    python -m training few-shot demo clips/index.csv --repository model_repository

Every video is encoded once. Prints a table and, last, the document that also stands in `result.json`.
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
from serve.features import FeatureLayout
from serve.independence import assign_groups
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
    """What is asked for."""

    model: str  # file of a checkpoint, or NAME[@VERSION] in `repository`
    repository: Path | None
    listing: Path
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    test: Path | None
    list_options: ListOptions
    split: str  # part of the list to draw from
    test_split: str  # part of the list to judge by
    classes: Path | None
    tokenizer: Path | None
    activation: str | None  # of CLIP's towers, where a foreign file does not say it
    cache: Path
    out: Path
    vocabulary: str | None  # of a server that is to be given the shots
    device: str  # a checkpoint computes on
    workers: int
    max_bad_share: float

    def __post_init__(self) -> None:
        if not self.shots or min(self.shots) < 1 or not self.seeds or min(self.seeds) < 0:
            raise ConfigError(
                f"--shots: numbers from 1, --seeds: numbers from 0, found {list(self.shots)}, {list(self.seeds)}"
            )


@dataclass(frozen=True, kw_only=True)
class FewShotLists:
    """The lists, read."""

    names: tuple[str, ...]
    pool: list[Entry]  # what shots are drawn from
    twin: list[Entry] | None  # the same videos in the other format
    test: list[Entry] | None  # None: the pool's own rest

    @classmethod
    def read(cls, order: FewShotOptions) -> "FewShotLists":
        """Raises AnnotationError where a list cannot be read or the classes do not fit."""
        listing = read_listing(order.listing, order.list_options)
        read = index_labels(
            rows_of_part(listing, order.split, option="--split"),
            listing,
            order.classes,
            first_label=order.list_options.first_label,
        )
        names, layout = read.names, listing.layout()
        twin = twin_rows(order.listing, listing.rows, kind=listing.kind, list_options=order.list_options)
        if twin is not None:
            twin = [replace(row, label=each.label) for row, each in zip(twin, read.rows, strict=True)]
        test = None
        if order.test is not None:
            judged = read_listing(order.test, order.list_options)
            rows = rows_of_part(judged, order.test_split, option="--test-split")
            test = entries_of(index_labels_like(read, rows, judged, order.classes), names)
            layout += judged.layout()
        elif order.test_split:
            raise ConfigError("--test-split: there is no list --test to choose a part of")
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
    """The videos shots are drawn from and those that judge, as the model sees them."""

    pool: EncodedVideos
    test: EncodedVideos  # the pool itself without a test list
    pool_videos: VideoSet
    test_videos: VideoSet
    pool_groups: Int64Array  # videos of one group depend on each other, in both lists
    test_groups: Int64Array

    @property
    def encoded(self) -> tuple[EncodedVideos, ...]:
        """Every list once."""
        return (self.pool,) if self.test is self.pool else (self.pool, self.test)

    def judges(self, draw: ShotSample) -> Int64Array:
        """Places of the videos a draw is judged by: none of them depends on one of its shots."""
        places = np.array(draw.rest if self.test is self.pool else range(len(self.test.entries)), np.int64)
        shown = self.pool_groups[np.array(draw.chosen, np.int64)]
        return places[~np.isin(self.test_groups[places], shown)]


def run(order: FewShotOptions) -> dict[str, Any]:
    """Measure, write the lists and `result.json`, print the table; returns the document.

    Raises:
        ConfigError, AnnotationError, CheckpointError, TooManyBadVideosError: what cannot be used.
    """
    lists = FewShotLists.read(order)
    towers = open_model(order)
    seen = _look(order, lists, towers)
    started = time.perf_counter()
    draws = _draws(order, lists, seen)
    rows = [_measured(draw, seen, towers.scoring, names=lists.names) for draw in draws]
    seconds = {
        "encoding": round(sum(part.seconds for part in seen.encoded), 3),
        "fitting": round(sum(item["seconds"] for row in rows for item in row["methods"].values()), 3),
        "all_after_encoding": round(time.perf_counter() - started, 3),
    }
    num_read = sum(len(part.entries) for part in seen.encoded)
    document = {
        "model": {"model": order.model, "identity": towers.identity, "family": towers.family},
        "list": str(order.listing),
        "test": None if order.test is None else str(order.test),
        "classes": len(lists.names),
        "templates": list(towers.text.templates),
        "features": _features_named(towers.layout),
        "videos": num_read,
        "independent": len(np.unique(np.concatenate([seen.pool_groups, seen.test_groups]))),
        "copies": num_read - len({digest for part in seen.encoded for digest in part.digests}),
        "unreadable": len(lists.pool) + len(lists.test or ()) - num_read,
        "videos_encoded": sum(part.num_encoded for part in seen.encoded),
        "summary": summary_of(rows),
        "draws": rows,
        "seconds": seconds,
    }
    for draw in draws:
        _write(_folder(order, draw), lists, draw, seen)
    write_lines(order.out / "result.json", [json.dumps(document, indent=1)])
    if order.vocabulary is not None:
        _tell_commands(order, order.vocabulary, lists, draws, seen.pool)
    if lists.twin is None:
        print("lists: in the format that was given; the other one needs its twin (videos_*.txt beside frames_*.txt)")
    print_report(document, num_seeds=len(order.seeds))
    return document


def _features_named(layout: FeatureLayout) -> str:
    if layout.prototype_dim:
        return "prototype features"
    return "video features before the prompt head" if layout.num_patches else "video features"


def open_model(order: FewShotOptions) -> FewShotModel:
    if order.repository is not None:
        if order.activation is not None or order.tokenizer is not None:
            raise ConfigError("--activation, --tokenizer: for a checkpoint; a model of --repository says both itself")
        return ServedModel.open(order.repository, order.model)
    return CheckpointModel(
        Path(order.model),
        tokenizer=order.tokenizer,
        device=select_device(order.device, key="--device"),
        activation=order.activation,
    )


def _look(order: FewShotOptions, lists: FewShotLists, towers: FewShotModel) -> EncodedLists:
    encoder = VideoEncoder(towers, cache=order.cache)
    try:
        pool = encoder.encode(lists.pool, workers=order.workers, max_bad_share=order.max_bad_share)
        test = pool
        if lists.test is not None:
            test = encoder.encode(lists.test, workers=order.workers, max_bad_share=order.max_bad_share)
        bank = encoder.bank(lists.names)
        pool_videos = _videos(encoder, pool, bank)
        test_videos = pool_videos if test is pool else _videos(encoder, test, bank)
    finally:
        encoder.close()
    groups = groups_of(pool) if test is pool else groups_of(pool, test)
    return EncodedLists(
        pool=pool,
        test=test,
        pool_videos=pool_videos,
        test_videos=test_videos,
        pool_groups=groups[: len(pool.entries)],
        test_groups=groups if test is pool else groups[len(pool.entries) :],
    )


def groups_of(*parts: EncodedVideos) -> Int64Array:
    """Group of each video of some lists [N]."""
    entries = [entry for part in parts for entry in part.entries]
    return assign_groups(
        names=[entry.path.name for entry in entries],
        digests=[digest for part in parts for digest in part.digests],
        declared=[entry.group for entry in entries],
    )


def _videos(encoder: VideoEncoder, encoded: EncodedVideos, bank: Float32Array) -> VideoSet:
    if not encoded.entries:
        raise AnnotationError("no video of the list can be read")
    return VideoSet(
        features=encoder.features(encoded.rows),
        text_logits=encoder.text_logits(encoded.rows, bank),
        labels=np.array([entry.label for entry in encoded.entries], np.int64),
    )


def _draws(order: FewShotOptions, lists: FewShotLists, seen: EncodedLists) -> list[ShotSample]:
    """Every seed's draws; without a test list each class keeps a group of videos to be judged by."""
    draws = [
        draw
        for seed in order.seeds
        for draw in sample_shots(
            seen.pool.entries,
            len(lists.names),
            shots=order.shots,
            seed=seed,
            spared=1 if order.test is None else 0,
            groups=seen.pool_groups.tolist(),
        )
    ]
    if not any(draw.chosen for draw in draws):
        raise AnnotationError(
            f"{order.listing}: no class has a video to spare for a shot: copies and videos of one group count once"
        )
    return draws


def _measured(
    draw: ShotSample, seen: EncodedLists, contract: ScoringContract, *, names: Sequence[str]
) -> dict[str, Any]:
    """One draw: what each method reaches on its judges."""
    shots = seen.pool_videos.part(np.array(draw.chosen, np.int64))
    places = seen.judges(draw)
    judges = seen.test_videos.part(places)
    if not len(judges.labels):
        raise AnnotationError("no video is left to judge by that depends on no shot: fewer shots, or --test LIST")
    methods: dict[str, Any] = {}
    for name, fit in METHODS.items():
        started = time.perf_counter()
        gain, facts = fit(shots, contract)
        seconds = time.perf_counter() - started
        top1 = accuracy(judges, gain(judges.features), contract)
        methods[name] = {"top1": round(top1, 4), "seconds": round(seconds, 3), "fit": dict(facts)}
    return {
        "shots": draw.shots,
        "seed": draw.seed,
        "num_shots": len(draw.chosen),
        "num_shots_independent": len(np.unique(seen.pool_groups[np.array(draw.chosen, np.int64)])),
        "num_judged": len(judges.labels),
        "num_judged_independent": len(np.unique(seen.test_groups[places])),
        "num_classes_judged": len(np.unique(judges.labels)),
        "short_classes": {names[label]: count for label, count in draw.short.items()},
        ZERO_SHOT: round(accuracy(judges, None, contract), 4),
        "methods": methods,
    }


def _folder(order: FewShotOptions, draw: ShotSample) -> Path:
    return order.out / f"{draw.shots}_shots_seed_{draw.seed}"


def _write(folder: Path, lists: FewShotLists, draw: ShotSample, seen: EncodedLists) -> None:
    """The lists of a draw in each format there is."""
    judges = seen.judges(draw)
    write_classes(folder / "classes.csv", lists.names)
    write_lists(folder, "train", [seen.pool.entries[place] for place in draw.chosen])
    write_lists(folder, "test", [seen.test.entries[place] for place in judges])
    if lists.twin is not None:
        write_lists(folder, "train", [lists.twin[seen.pool.places[place]] for place in draw.chosen])
        if seen.test is seen.pool:
            write_lists(folder, "test", [lists.twin[seen.pool.places[place]] for place in judges])


def _tell_commands(
    order: FewShotOptions, vocabulary: str, lists: FewShotLists, draws: Sequence[ShotSample], pool: EncodedVideos
) -> None:
    """For the first seed's largest draw."""
    draw = max((draw for draw in draws if draw.seed == order.seeds[0]), key=lambda draw: draw.shots)
    labels = _folder(order, draw) / "labels.txt"
    write_lines(labels, lists.names)
    print(f"to fit these prototypes on a server ({draw.shots} shots, seed {draw.seed}):")
    for line in server_commands(
        vocabulary, labels.absolute(), lists.names, [pool.entries[place] for place in draw.chosen]
    ):
        print(f"  {line}")
