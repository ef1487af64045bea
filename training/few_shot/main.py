"""Measure the few-shot accuracy of a model without training it: K examples of each class in addition to the text.

    python -m training few-shot runs/demo/checkpoint.pt clips/index.csv --shots 2,4,8,16 --seeds 0,1,2
    python -m training few-shot demo clips/index.csv --repository model_repository

Every video is encoded once. The command prints a table, and as its last line the JSON document that it also writes to
`result.json`.
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
from training.data.lists.labels import entries_of, index_labels, index_labels_like, unify_spelling
from training.data.lists.listing import read_listing, rows_of_split
from training.data.lists.rows import Entry, ListOptions
from training.data.lists.shots import ShotSample, sample_shots
from training.devices import select_device
from training.few_shot.encoding import EncodedVideos, VideoEncoder
from training.few_shot.lists import read_twin_rows, write_classes, write_lists
from training.few_shot.methods import METHODS, LabelledFeatures, accuracy
from training.few_shot.models import CheckpointModel, FewShotModel
from training.few_shot.report import ZERO_SHOT, print_report, server_commands, summarise


@dataclass(frozen=True, kw_only=True)
class FewShotOptions:
    """Options of the commands `few-shot` and `features`."""

    model: str  # file of a checkpoint, or NAME[@VERSION] in `repository`
    repository: Path | None
    listing: Path
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    test: Path | None
    list_options: ListOptions
    split: str  # part of the list to sample from
    test_split: str  # part of the list to judge by
    classes: Path | None
    tokenizer: Path | None
    activation: str | None  # of CLIP's model, where a foreign file does not say it
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
    """The entries of the lists, and their class names."""

    names: tuple[str, ...]
    pool: list[Entry]  # entries to sample shots from
    twin: list[Entry] | None  # the same videos in the other list format; None: there is no such list
    test: list[Entry] | None  # None: the entries of the pool that are not used as shots

    @classmethod
    def read(cls, options: FewShotOptions) -> "FewShotLists":
        """Read the lists, and print how they were interpreted to standard error.

        Raises:
            AnnotationError: a list cannot be read, or the classes of the lists differ.
            ConfigError: `test_split` is set without a test list.
        """
        listing = read_listing(options.listing, options.list_options)
        indexed = index_labels(
            rows_of_split(listing, options.split, option="--split"),
            listing,
            options.classes,
            first_label=options.list_options.first_label,
        )
        names, layout = indexed.names, listing.layout()
        twin = read_twin_rows(options.listing, listing.rows, kind=listing.kind, list_options=options.list_options)
        if twin is not None:
            twin = [replace(row, label=other.label) for row, other in zip(twin, indexed.rows, strict=True)]
        test = None
        if options.test is not None:
            test_listing = read_listing(options.test, options.list_options)
            rows = rows_of_split(test_listing, options.test_split, option="--test-split")
            test = entries_of(index_labels_like(indexed, rows, test_listing, options.classes), names)
            layout += test_listing.layout()
        elif options.test_split:
            raise ConfigError("--test-split can be used only with --test")
        for line in layout:
            print(line, file=sys.stderr)
        return cls(
            names=names,
            pool=entries_of(unify_spelling(indexed.rows, names), names),
            twin=None if twin is None else entries_of(twin, names),
            test=test,
        )


@dataclass(frozen=True, kw_only=True)
class EncodedLists:
    """The pool that shots are sampled from, and the test videos, encoded by the model."""

    pool: EncodedVideos
    test: EncodedVideos  # the same object as `pool` if there is no test list
    pool_features: LabelledFeatures
    test_features: LabelledFeatures
    pool_groups: Int64Array  # group id of each video; videos of one group, in either list, are not independent
    test_groups: Int64Array

    @property
    def distinct(self) -> tuple[EncodedVideos, ...]:
        """Return the pool, and the test videos if they are another list."""
        return (self.pool,) if self.test is self.pool else (self.pool, self.test)

    def test_indices(self, sample: ShotSample) -> Int64Array:
        """Return the indices of the test videos for a sample: those whose group contains none of its shots."""
        indices = np.array(sample.remaining if self.test is self.pool else range(len(self.test.entries)), np.int64)
        shot_groups = self.pool_groups[np.array(sample.chosen, np.int64)]
        return indices[~np.isin(self.test_groups[indices], shot_groups)]


def run(options: FewShotOptions) -> dict[str, Any]:
    """Evaluate all methods, write the lists and `result.json`, and print the table; return the JSON document.

    Raises:
        ConfigError: options contradict each other.
        AnnotationError: a list cannot be read, or has too few independent videos.
        CheckpointError: the model cannot be read.
        TooManyBadVideosError: too many videos cannot be read.
    """
    lists = FewShotLists.read(options)
    model = open_model(options)
    encoded = _encode_lists(options, lists, model)
    started = time.perf_counter()
    samples = _sample_all(options, lists, encoded)
    results = [_evaluate_sample(sample, encoded, model.scoring, names=lists.names) for sample in samples]
    seconds = {
        "encoding": round(sum(videos.seconds for videos in encoded.distinct), 3),
        "fitting": round(sum(item["seconds"] for result in results for item in result["methods"].values()), 3),
        "all_after_encoding": round(time.perf_counter() - started, 3),
    }
    num_read = sum(len(videos.entries) for videos in encoded.distinct)
    document = {
        "model": {"model": options.model, "identity": model.identity, "family": model.family},
        "list": str(options.listing),
        "test": None if options.test is None else str(options.test),
        "classes": len(lists.names),
        "templates": list(model.text.templates),
        "features": _describe_features(model.layout),
        "videos": num_read,
        "independent": len(np.unique(np.concatenate([encoded.pool_groups, encoded.test_groups]))),
        "copies": num_read - len({digest for videos in encoded.distinct for digest in videos.digests}),
        "unreadable": len(lists.pool) + len(lists.test or ()) - num_read,
        "videos_encoded": sum(videos.num_uncached for videos in encoded.distinct),
        "summary": summarise(results),
        "draws": results,
        "seconds": seconds,
    }
    for sample in samples:
        _write_sample(_sample_folder(options, sample), lists, sample, encoded)
    write_lines(options.out / "result.json", [json.dumps(document, indent=1)])
    if options.vocabulary is not None:
        _print_server_commands(options, options.vocabulary, lists, samples, encoded.pool)
    if lists.twin is None:
        print(
            "the lists of shots were written only in the format of the given list; for both formats, give a list that "
            "`prepare` wrote (videos_*.txt beside frames_*.txt)"
        )
    print_report(document, num_seeds=len(options.seeds))
    return document


def _describe_features(layout: FeatureLayout) -> str:
    if layout.prototype_dim:
        return "prototype features"
    return "video features before the prompt head" if layout.num_patches else "video features"


def open_model(options: FewShotOptions) -> FewShotModel:
    """Return the model of the options: a checkpoint, or an exported model if `repository` is set.

    Raises:
        ConfigError: an option can be used only with a checkpoint, or the device is not available.
        CheckpointError: the checkpoint cannot be read.
    """
    if options.repository is not None:
        if options.activation is not None or options.tokenizer is not None:
            raise ConfigError(
                "--activation and --tokenizer can be used only with a checkpoint; a model of --repository contains both"
            )
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
        pool_features = _make_labelled_features(encoder, pool, bank)
        test_features = pool_features if test is pool else _make_labelled_features(encoder, test, bank)
    finally:
        encoder.close()
    groups = find_groups(pool) if test is pool else find_groups(pool, test)
    return EncodedLists(
        pool=pool,
        test=test,
        pool_features=pool_features,
        test_features=test_features,
        pool_groups=groups[: len(pool.entries)],
        test_groups=groups if test is pool else groups[len(pool.entries) :],
    )


def find_groups(*lists: EncodedVideos) -> Int64Array:
    """Return the group id of each video of one or several lists [N]."""
    entries = [entry for videos in lists for entry in videos.entries]
    return assign_groups(
        names=[entry.path.name for entry in entries],
        digests=[digest for videos in lists for digest in videos.digests],
        declared=[entry.group for entry in entries],
    )


def _make_labelled_features(encoder: VideoEncoder, videos: EncodedVideos, bank: Float32Array) -> LabelledFeatures:
    if not videos.entries:
        raise AnnotationError("no video of the list can be read")
    return LabelledFeatures(
        features=encoder.features(videos.vectors),
        text_logits=encoder.text_logits(videos.vectors, bank),
        labels=np.array([entry.label for entry in videos.entries], np.int64),
    )


def _sample_all(options: FewShotOptions, lists: FewShotLists, encoded: EncodedLists) -> list[ShotSample]:
    """Return the samples of all seeds; without a test list, one group of each class is held out for evaluation."""
    samples = [
        sample
        for seed in options.seeds
        for sample in sample_shots(
            encoded.pool.entries,
            len(lists.names),
            shots=options.shots,
            seed=seed,
            num_held_out_groups=1 if options.test is None else 0,
            groups=encoded.pool_groups.tolist(),
        )
    ]
    if not any(sample.chosen for sample in samples):
        raise AnnotationError(
            f"{options.listing}: every class has too few independent videos for a shot and a test video; copies and "
            "videos of one group count once; add videos, or give a test list with --test"
        )
    return samples


def _evaluate_sample(
    sample: ShotSample, encoded: EncodedLists, contract: ScoringContract, *, names: Sequence[str]
) -> dict[str, Any]:
    """Fit each method to the shots of a sample, and return the results on its test videos."""
    shots = encoded.pool_features.subset(np.array(sample.chosen, np.int64))
    indices = encoded.test_indices(sample)
    test = encoded.test_features.subset(indices)
    if not len(test.labels):
        raise AnnotationError(
            "no test video is independent of the shots; use fewer shots, or give a test list with --test"
        )
    methods: dict[str, Any] = {}
    for name, fit in METHODS.items():
        started = time.perf_counter()
        example_logits, info = fit(shots, contract)
        seconds = time.perf_counter() - started
        top1 = accuracy(test, example_logits(test.features), contract)
        methods[name] = {"top1": round(top1, 4), "seconds": round(seconds, 3), "fit": dict(info)}
    return {
        "shots": sample.shots,
        "seed": sample.seed,
        "num_shots": len(sample.chosen),
        "num_shots_independent": len(np.unique(encoded.pool_groups[np.array(sample.chosen, np.int64)])),
        "num_judged": len(test.labels),
        "num_judged_independent": len(np.unique(encoded.test_groups[indices])),
        "num_classes_judged": len(np.unique(test.labels)),
        "short_classes": {names[label]: count for label, count in sample.num_available.items()},
        ZERO_SHOT: round(accuracy(test, None, contract), 4),
        "methods": methods,
    }


def _sample_folder(options: FewShotOptions, sample: ShotSample) -> Path:
    return options.out / f"{sample.shots}_shots_seed_{sample.seed}"


def _write_sample(folder: Path, lists: FewShotLists, sample: ShotSample, encoded: EncodedLists) -> None:
    """Write the shots and the test videos of a sample as lists, in both formats if the pool has a twin list."""
    test_indices = encoded.test_indices(sample)
    write_classes(folder / "classes.csv", lists.names)
    write_lists(folder, "train", [encoded.pool.entries[index] for index in sample.chosen])
    write_lists(folder, "test", [encoded.test.entries[index] for index in test_indices])
    if lists.twin is not None:
        write_lists(folder, "train", [lists.twin[encoded.pool.indices[index]] for index in sample.chosen])
        if encoded.test is encoded.pool:
            write_lists(folder, "test", [lists.twin[encoded.pool.indices[index]] for index in test_indices])


def _print_server_commands(
    options: FewShotOptions, vocabulary: str, lists: FewShotLists, samples: Sequence[ShotSample], pool: EncodedVideos
) -> None:
    """Print commands that add the shots of the first seed's largest sample to a vocabulary on a server."""
    sample = max((sample for sample in samples if sample.seed == options.seeds[0]), key=lambda sample: sample.shots)
    labels = _sample_folder(options, sample) / "labels.txt"
    write_lines(labels, lists.names)
    print(f"to fit these prototypes on a server ({sample.shots} shots, seed {sample.seed}):")
    shots = [pool.entries[index] for index in sample.chosen]
    for line in server_commands(vocabulary, labels.absolute(), lists.names, shots):
        print(f"  {line}")
