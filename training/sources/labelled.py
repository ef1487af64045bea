"""The training source of labelled videos: lists, CSV files, class folders and shards."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from serve.scoring import Scores, build_bank, reduce_logits, top_k
from training.config import ConfigError, DataConfig, ExtraSource, TrainConfig
from training.data.bad_videos import BadVideos
from training.data.clips.datasets import (
    Batch,
    EpochSampler,
    Sample,
    TestClips,
    TrainingClips,
    collate,
    num_loading_workers,
    start_method,
)
from training.data.clips.reader import ClipReader, decode_settings
from training.data.clips.rules import clip_rule, normalise_clips
from training.data.lists.class_lists import read_class_names
from training.data.lists.labels import (
    IndexedRows,
    class_names_of,
    entries_of,
    index_labels,
    index_labels_like,
    reject_numeric_names,
    unify_spelling,
)
from training.data.lists.listing import read_listing, rows_of_split
from training.data.lists.rows import Entry, Listing, ListOptions, ListRow
from training.data.lists.shots import sample_shots_to_train
from training.data.prompts import TemplatedPhrases
from training.data.shards.random_access import ShardSampler, ShardSamples
from training.data.shards.reading import Shard, find_shards, read_index
from training.data.shared_memory import check_shared_memory, clip_num_bytes
from training.distributed import all_gather_objects, local_batch_size, rank_and_world_size
from training.evaluation.accumulator import MetricAccumulator, gather_accumulators, score_video
from training.models.base import VideoTextModel
from training.monitor import MAX_PREDICTIONS, EvaluationReport, Prediction
from training.prompting import make_scoring_contract, make_text_contract
from training.torch_scoring import as_array, output_logits

logger = logging.getLogger(__name__)

MODEL_CARD = """\
Trained on {num_entries:,} labelled videos of {num_classes} classes ({clips:,} clips, {minutes:.0f} minutes).
"""


class LabelledSource:
    """Videos that have one class each and are classified among prompts of all class names."""

    weights: Mapping[str, float] = {"label": 1.0}

    def __init__(self, config: TrainConfig) -> None:
        data = config.data
        if not data.train:
            raise ConfigError(f"data.train must be set for the source {data.source}: a list, a folder or shards")
        self._config = config
        self._train, self.labels, first_label = _load_training_data(data)
        self._val = _load_evaluation_data(data, self.labels, first_label)
        self.templates = data.templates
        self.num_entries: int | None = len(self._train)
        self._phrases = TemplatedPhrases(
            self.labels, data.templates, text=make_text_contract(config), seed=config.run.seed, tokenizer=data.tokenizer
        )
        self.tasks = {"label": (slice(0, len(self.labels)), torch.arange(len(self.labels)))}
        self._reader = ClipReader(clip_rule(data, self.labels), decode_settings(data))
        self.bad = BadVideos(num_entries=len(self._train), max_share=data.max_bad_share)
        self._bad_val = BadVideos(num_entries=len(self._val) if self._val else 0, max_share=data.max_bad_share)

    def tokens(self, step: int) -> Tensor:
        """Return tokens [K, L] of all class names, each with a template that is sampled for this step."""
        return self._phrases.tokens(step)

    def sample_tokens(self, indices: Tensor, step: int) -> Tensor:
        """Return tokens [b, L] of the class name of each clip, each with a sampled template."""
        return self._phrases.sample_tokens(indices, step)

    def batches(self, *, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (clips uint8 [b, T, 3, S, S], labels [b]) of this process endlessly.

        Raises:
            TooManyBadVideosError: more entries than allowed cannot be read.
        """
        for batch in self._train.loader(self._reader, self._config, first_step=first_step):
            self.bad.add(batch.failures)
            yield batch.clips, batch.labels

    @torch.no_grad()
    def measure(self, model: VideoTextModel) -> EvaluationReport:
        """Return accuracy and calibration over the readable evaluation videos of all processes."""
        num_bad = len(set(all_gather_objects(list(self.bad.reasons))))
        if self._val is None:
            return EvaluationReport(metrics={"bad_training_videos": num_bad})
        model.eval()
        device = next(model.parameters()).device
        scoring = make_scoring_contract(self._config, model)
        texts = [as_array(model.encode_text(ids.to(device))) for ids in self._phrases.token_ids]  # [K, D] per template
        bank = build_bank(np.stack(texts), scoring, has_prompt_head=model.has_prompt_head)  # [M, K, D]
        rank, world_size = rank_and_world_size()
        video_indices = count(rank, world_size)  # unique over all processes; not the positions in the list
        accumulator = MetricAccumulator(len(self.labels), is_distribution=scoring.activation == "softmax")
        predictions: list[Prediction] = []
        for batch in self._val.test_loader(self._reader, self._config):
            self._bad_val.add(batch.failures)
            if not len(batch.labels):
                continue
            clips = batch.clips[:, 0]
            frames = normalise_clips(clips.to(device), self._reader.rule.preprocess)
            logits = output_logits(model, model.encode_video(frames), bank, scoring)  # [B, M, K]
            video_scores = [reduce_logits(views[None], scoring, function=scoring.activation) for views in logits]
            labels = batch.labels.tolist()
            for scores, label, origin in zip(video_scores, labels, batch.origins, strict=True):
                name, digest, group = origin
                accumulator.add(
                    score_video(scores, index=next(video_indices), path=name, label=label, digest=digest, group=group)
                )
            limit = MAX_PREDICTIONS - len(predictions)
            predictions += self._make_predictions(clips[:limit], labels[:limit], video_scores[:limit])
        (accumulator,) = gather_accumulators([accumulator])
        num_bad_val = len(set(all_gather_objects(list(self._bad_val.reasons))))
        return EvaluationReport(
            metrics={**_select_metrics(accumulator), "bad_training_videos": num_bad, "bad_videos": num_bad_val},
            confusion=accumulator.confusion(),
            predictions=tuple(predictions),
        )

    def card(self, history: Sequence[dict[str, Any]], *, seconds: float, clips: int) -> str:
        """Return the model card."""
        text = MODEL_CARD.format(
            num_entries=len(self._train), num_classes=len(self.labels), clips=clips, minutes=max(seconds / 60, 1)
        )
        evaluations = [metrics for metrics in history if metrics.get("intervals")]  # earlier versions recorded none
        if not evaluations:
            return text
        last = evaluations[-1]
        low, high = last["intervals"]["top1"]
        return text + (
            f"Evaluated during training on {last['videos']} videos of the evaluation list, {last['independent']} "
            f"of them independent: top-1 {last['top1']:.3f} ({low:.3f} to {high:.3f}).\n"
        )

    def _make_predictions(
        self, clips: Tensor, labels: Sequence[int], video_scores: Sequence[Scores]
    ) -> list[Prediction]:
        """Return the predictions for clips uint8 [B, T, 3, S, S], to show them in the training report."""
        return [
            Prediction(
                clip=clip.numpy(),
                label=self.labels[label],
                predicted=self.labels[int(top_k(scores, 1)[0])],
                probability=scores.best,
            )
            for clip, label, scores in zip(clips, labels, video_scores, strict=True)
        ]


def _select_metrics(accumulator: MetricAccumulator) -> dict[str, Any]:
    """Return the metrics of an evaluation during training, with 95 % intervals; None if no video could be read."""
    keys = {"top1": "top1", "top5": f"top{accumulator.top5_k}", "mean_class_accuracy": "mean_class_accuracy"}
    if not accumulator.readable:
        nothing = dict.fromkeys((*keys.values(), "calibration_error"))
        return {"videos": 0, "independent": 0, "copies": 0, **nothing, "intervals": {}}
    metrics, intervals = accumulator.compute(), accumulator.intervals()
    return {
        "videos": metrics.num_readable,
        "independent": metrics.num_independent,
        "copies": metrics.num_copies,
        **{key: round(getattr(metrics, name), 4) for name, key in keys.items()},
        "calibration_error": round(metrics.calibration_error, 4),
        "intervals": {key: [round(edge, 4) for edge in intervals[name]] for name, key in keys.items()},
    }


class ListData:
    """Training or evaluation data from a list."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def loader(self, reader: ClipReader, config: TrainConfig, *, first_step: int) -> DataLoader[Batch]:
        """Return an endless loader of training batches, which starts with the batch of `first_step`."""
        rank, world_size = rank_and_world_size()
        seed, first = config.run.seed, first_step * config.run.batch_size
        sampler = EpochSampler(len(self._entries), seed=seed, first=first, rank=rank, world_size=world_size)
        return _make_loader(TrainingClips(self._entries, reader, seed=seed), config, sampler=sampler)

    def test_loader(self, reader: ClipReader, config: TrainConfig) -> DataLoader[Batch]:
        """Return a loader of this process's share of the entries, each once and in order."""
        rank, world_size = rank_and_world_size()
        return _make_loader(TestClips(self._entries[rank::world_size], reader), config)


class ShardData:
    """Training or evaluation data from shards."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards

    def __len__(self) -> int:
        return sum(shard.num_samples for shard in self._shards)

    def loader(self, reader: ClipReader, config: TrainConfig, *, first_step: int) -> DataLoader[Batch]:
        """Return an endless loader of training batches, which starts with the batch of `first_step`."""
        rank, world_size = rank_and_world_size()
        sampler = ShardSampler(
            self._shards,
            seed=config.run.seed,
            buffer=config.data.shuffle_buffer,
            first=first_step * config.run.batch_size,
            rank=rank,
            world_size=world_size,
        )
        clips = TrainingClips(ShardSamples(self._shards), reader, seed=config.run.seed)
        return _make_loader(clips, config, sampler=sampler)

    def test_loader(self, reader: ClipReader, config: TrainConfig) -> DataLoader[Batch]:
        """Return a loader of this process's share of the samples, each once."""
        rank, world_size = rank_and_world_size()
        samples = ShardSamples(self._shards)
        return _make_loader(TestClips(samples, reader), config, sampler=range(rank, len(samples), world_size))


def _make_loader(dataset: Dataset[Sample], config: TrainConfig, **options: Any) -> DataLoader[Batch]:
    workers = num_loading_workers(config.data.workers)
    batch_size = local_batch_size(config.run.batch_size, rank_and_world_size()[1])
    check_shared_memory(clip_num_bytes(config.data), batch_size=batch_size, workers=workers)
    return DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_size=batch_size,
        num_workers=workers,
        multiprocessing_context=start_method(workers),
        collate_fn=collate,
        generator=torch.Generator(),  # otherwise, the loader would advance the global generator
        **options,
    )


def _load_training_data(data: DataConfig) -> tuple[ListData | ShardData, tuple[str, ...], int | None]:
    """Return the training data, the class names, and the first label of the list."""
    classes = Path(data.classes) if data.classes else None
    if data.source == "shards":
        if data.shots:
            raise ConfigError("data.shots cannot be used with shards; use a list")
        if data.extra:
            raise ConfigError("data.extra cannot be used with shards; use a list or folder as data.train")
        if data.fold or data.val_split or data.first_label is not None:
            raise ConfigError("data.fold, data.val_split and data.first_label cannot be used with shards; use a list")
        shards = find_shards(data.train)
        names = (
            tuple(read_class_names(classes)) if classes else tuple(read_index(shards[0].path.parent).get("classes", ()))
        )
        if not names:
            raise ConfigError("data.classes: these shards have no class names; give a CSV `id,name`")
        return ShardData(shards), names, None
    listing = _read_listing(data, data.train)
    rows = _select_rows(listing, "train", "data.train")
    indexed = index_labels(rows, listing, classes, first_label=data.first_label)
    names, entries = indexed.names, entries_of(indexed.rows, indexed.names)
    if data.shots:
        entries = sample_shots_to_train(entries, names, shots=data.shots, seed=data.shots_seed)
    for extra in data.extra:
        extra_rows = _read_extra_rows(extra, names)
        new_names = tuple(name for name in class_names_of(extra_rows) if name not in names)
        names += new_names  # appended, so that the labels of other classes do not change
        entries += entries_of(extra_rows, names) * extra.repeat if extra_rows else []
        logger.info(
            "added %d videos of %s %s, with %d new classes", len(extra_rows), extra.source, extra.train, len(new_names)
        )
    return ListData(entries), names, indexed.first_label


def _load_evaluation_data(
    data: DataConfig, names: tuple[str, ...], first_label: int | None
) -> ListData | ShardData | None:
    """Return the evaluation data, or None without `data.val`; names and first label are those of the training list."""
    if not data.val:
        if data.val_split:
            raise ConfigError("data.val_split can be used only if data.val is set")
        return None
    if data.source == "shards":
        return ShardData(find_shards(data.val))
    listing = _read_listing(data, data.val)
    rows = _select_rows(listing, data.val_split or "val", "data.val_split", is_required=bool(data.val_split))
    training = IndexedRows(names=names, rows=[], first_label=first_label)
    classes = Path(data.classes) if data.classes else None
    return ListData(entries_of(index_labels_like(training, rows, listing, classes), names))


def _read_listing(data: DataConfig, path: str) -> Listing:
    """Read a list, and log how it was interpreted."""
    root = Path(data.root) if data.root else None
    listing = read_listing(Path(path), ListOptions(kind=data.source, root=root, fold=data.fold))
    for line in listing.layout():
        logger.info("%s", line)
    return listing


def _select_rows(listing: Listing, split: str, option: str, *, is_required: bool = False) -> list[ListRow]:
    """Return the rows of a split; if the list has no splits, return all rows, unless the split is required."""
    return rows_of_split(listing, split if listing.splits or is_required else "", option=option)


def _read_extra_rows(extra: ExtraSource, names: tuple[str, ...]) -> list[ListRow]:
    root = Path(extra.root) if extra.root else None
    listing = read_listing(Path(extra.train), ListOptions(kind=extra.source, root=root))
    rows = _select_rows(listing, "train", "data.extra")
    if any(row.name is None for row in rows):
        rows = index_labels(rows, listing, names).rows
    else:
        reject_numeric_names(rows)
    return unify_spelling(rows, names)
