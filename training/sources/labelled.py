"""Labelled videos as a source of the trainer: lists, CSV files, class folders and shards."""

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
    Epochs,
    Sample,
    TestClips,
    TrainingClips,
    collate,
    num_loading_workers,
    start_method,
)
from training.data.clips.reader import ClipReader, decode_settings
from training.data.clips.rules import clip_rule, normalised
from training.data.lists.class_lists import read_class_names
from training.data.lists.labels import (
    IndexedRows,
    entries_of,
    index_labels,
    index_labels_like,
    names_of,
    refuse_numbers_as_names,
    with_known_names,
)
from training.data.lists.listing import read_listing, rows_of_part
from training.data.lists.rows import Entry, Listing, ListOptions, ListRow
from training.data.lists.shots import sample_shots_to_train
from training.data.prompts import TemplatedPhrases
from training.data.shards.clips import PackedSamples, ShardOrder
from training.data.shards.reading import Shard, find_shards, read_index
from training.data.shared_memory import bytes_of_clip, require_shared_memory
from training.distributed import all_gather_objects, local_batch_size, rank_and_count
from training.evaluation.accumulator import MetricAccumulator, gather_accumulators, score_video
from training.models.base import VideoTextModel
from training.monitor import MOST_SAMPLES, EvaluationReport, Prediction
from training.prompting import scoring_rules, text_rules
from training.torch_scoring import as_array, output_logits

logger = logging.getLogger(__name__)

CARD = """\
Trained on {num_entries:,} labelled videos of {num_classes} classes ({clips:,} clips, {minutes:.0f} minutes).
"""


class LabelledSource:
    """Videos with one class each, classified among prompts of the class names."""

    weights: Mapping[str, float] = {"label": 1.0}

    def __init__(self, config: TrainConfig) -> None:
        data = config.data
        if not data.train:
            raise ConfigError(f"data.train: the source {data.source} needs a list, folder or shards to train on")
        self._config = config
        self._train, self.labels, first_label = _training_part(data)
        self._val = _evaluation_part(data, self.labels, first_label)
        self.templates = data.templates
        self.num_entries: int | None = len(self._train)
        self._phrases = TemplatedPhrases(
            self.labels, data.templates, text=text_rules(config), seed=config.run.seed, tokenizer=data.tokenizer
        )
        self.tasks = {"label": (slice(0, len(self.labels)), torch.arange(len(self.labels)))}
        self._reader = ClipReader(clip_rule(data, self.labels), decode_settings(data))
        self.bad = BadVideos(num_entries=len(self._train), max_share=data.max_bad_share)
        self._bad_val = BadVideos(num_entries=len(self._val) if self._val else 0, max_share=data.max_bad_share)

    def tokens(self, step: int) -> Tensor:
        """Return tokens [K, L] of all class names, each with a template sampled by the step."""
        return self._phrases.tokens(step)

    def sample_tokens(self, indices: Tensor, step: int) -> Tensor:
        """Return tokens [b, L] of the class name of each clip, each with a sampled template."""
        return self._phrases.of_samples(indices, step)

    def batches(self, *, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (clips uint8 [b, T, 3, S, S], labels [b]) of this process endlessly.

        Raises:
            TooManyBadVideosError: more entries than allowed cannot be read.
        """
        for batch in self._train.loader(self._reader, self._config, first_step=first_step):
            self.bad.note(batch.failures)
            yield batch.clips, batch.labels

    @torch.no_grad()
    def measure(self, model: VideoTextModel) -> EvaluationReport:
        """Return accuracy and calibration over the readable evaluation videos of all processes."""
        bad = len(set(all_gather_objects(list(self.bad.reasons))))
        if self._val is None:
            return EvaluationReport(figures={"bad_training_videos": bad})
        model.eval()
        device = next(model.parameters()).device
        scoring = scoring_rules(self._config, model)
        texts = [as_array(model.encode_text(rows.to(device))) for rows in self._phrases.rows]  # [K, D] per template
        bank = build_bank(np.stack(texts), scoring, has_prompt_head=model.has_prompt_head)  # [M, K, D]
        rank, num_ranks = rank_and_count()
        places = count(rank, num_ranks)  # unique indices, not positions in a list
        accumulator = MetricAccumulator(len(self.labels), is_distribution=scoring.activation == "softmax")
        shown: list[Prediction] = []
        for batch in self._val.test_loader(self._reader, self._config):
            self._bad_val.note(batch.failures)
            if not len(batch.labels):
                continue
            clips = batch.clips[:, 0]
            frames = normalised(clips.to(device), self._reader.rule.preprocess)
            logits = output_logits(model, model.encode_video(frames), bank, scoring)  # [B, M, K]
            found = [reduce_logits(each[None], scoring, function=scoring.activation) for each in logits]
            for scores, label in zip(found, batch.labels.tolist(), strict=True):
                accumulator.add(score_video(scores, index=next(places), path="", label=label))
            shown += self._shown(clips, batch.labels.tolist(), found, MOST_SAMPLES - len(shown))
        (accumulator,) = gather_accumulators([accumulator])
        unreadable = len(set(all_gather_objects(list(self._bad_val.reasons))))
        return EvaluationReport(
            figures={**_figures(accumulator), "bad_training_videos": bad, "bad_videos": unreadable},
            confusion=accumulator.confusion(),
            predictions=tuple(shown),
        )

    def card(self, history: Sequence[dict[str, Any]], *, seconds: float, clips: int) -> str:
        """Return the model card."""
        text = CARD.format(
            num_entries=len(self._train), num_classes=len(self.labels), clips=clips, minutes=max(seconds / 60, 1)
        )
        measured = [figures for figures in history if figures.get("top1") is not None]
        if not measured:
            return text
        last = measured[-1]
        return (
            text
            + f"Measured while training on {last['videos']} videos of its evaluation list: top-1 {last['top1']:.3f}.\n"
        )

    def _shown(self, clips: Tensor, labels: Sequence[int], found: Sequence[Scores], most: int) -> list[Prediction]:
        """Return predictions of the first clips of a batch."""
        return [
            Prediction(
                clip=clip.numpy(),
                label=self.labels[label],
                predicted=self.labels[int(top_k(scores, 1)[0])],
                probability=scores.best,
            )
            for clip, label, scores in zip(clips[:most], labels[:most], found[:most], strict=True)
        ]


def _figures(accumulator: MetricAccumulator) -> dict[str, Any]:
    """Return the metrics of an evaluation during training."""
    if not accumulator.readable:
        return {"videos": 0, "top1": None, f"top{accumulator.top5_k}": None} | dict.fromkeys(
            ("mean_class_accuracy", "calibration_error")
        )
    figures = accumulator.compute()
    return {
        "videos": figures.num_readable,
        "top1": round(figures.top1, 4),
        f"top{figures.top5_k}": round(figures.top5, 4),
        "mean_class_accuracy": round(figures.mean_class_accuracy, 4),
        "calibration_error": round(figures.calibration_error, 4),
    }


class ListedEntries:
    """Training or evaluation data from a list."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def loader(self, reader: ClipReader, config: TrainConfig, *, first_step: int) -> DataLoader[Batch]:
        """Return an endless loader of training batches from a step on."""
        rank, num_ranks = rank_and_count()
        seed, first = config.run.seed, first_step * config.run.batch_size
        order = Epochs(len(self._entries), seed=seed, first=first, rank=rank, num_ranks=num_ranks)
        return _loader(TrainingClips(self._entries, reader, seed=seed), config, sampler=order)

    def test_loader(self, reader: ClipReader, config: TrainConfig) -> DataLoader[Batch]:
        """Return a loader of every entry once, in order; each process has its share."""
        rank, num_ranks = rank_and_count()
        return _loader(TestClips(self._entries[rank::num_ranks], reader), config)


class Shards:
    """Training or evaluation data from shards."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards

    def __len__(self) -> int:
        return sum(shard.num_samples for shard in self._shards)

    def loader(self, reader: ClipReader, config: TrainConfig, *, first_step: int) -> DataLoader[Batch]:
        """Return an endless loader of training batches from a step on."""
        rank, num_ranks = rank_and_count()
        order = ShardOrder(
            self._shards,
            seed=config.run.seed,
            buffer=config.data.shuffle_buffer,
            first=first_step * config.run.batch_size,
            rank=rank,
            num_ranks=num_ranks,
        )
        clips = TrainingClips(PackedSamples(self._shards), reader, seed=config.run.seed)
        return _loader(clips, config, sampler=order)

    def test_loader(self, reader: ClipReader, config: TrainConfig) -> DataLoader[Batch]:
        """Return a loader of every sample once; each process has its share."""
        rank, num_ranks = rank_and_count()
        samples = PackedSamples(self._shards)
        return _loader(TestClips(samples, reader), config, sampler=range(rank, len(samples), num_ranks))


def _loader(dataset: Dataset[Sample], config: TrainConfig, **options: Any) -> DataLoader[Batch]:
    workers = num_loading_workers(config.data.workers)
    size = local_batch_size(config.run.batch_size, rank_and_count()[1])
    require_shared_memory(bytes_of_clip(config.data), batch_size=size, workers=workers)
    return DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_size=size,
        num_workers=workers,
        multiprocessing_context=start_method(workers),
        collate_fn=collate,
        generator=torch.Generator(),  # separate, so that the loader does not advance the global generator
        **options,
    )


def _training_part(data: DataConfig) -> tuple[ListedEntries | Shards, tuple[str, ...], int | None]:
    """Return the training data, the class names, and the first label of its list."""
    classes = Path(data.classes) if data.classes else None
    if data.source == "shards":
        if data.shots:
            raise ConfigError("data.shots needs a list, not shards")
        if data.extra:
            raise ConfigError("data.extra needs a list or folder as data.train, not shards")
        if data.fold or data.val_split or data.first_label is not None:
            raise ConfigError("data.fold, data.val_split, data.first_label are for lists, not for shards")
        shards = find_shards(data.train)
        names = (
            tuple(read_class_names(classes)) if classes else tuple(read_index(shards[0].path.parent).get("classes", ()))
        )
        if not names:
            raise ConfigError("data.classes: these shards have no class names; give a CSV `id,name`")
        return Shards(shards), names, None
    listing = _listing(data, data.train)
    read = index_labels(_rows_of(listing, "train", "data.train"), listing, classes, first_label=data.first_label)
    names, entries = read.names, entries_of(read.rows, read.names)
    if data.shots:
        entries = sample_shots_to_train(entries, names, shots=data.shots, seed=data.shots_seed)
    for extra in data.extra:
        group = _extra_rows(extra, names)
        new = tuple(name for name in names_of(group) if name not in names)
        names += new  # appended, so that other labels do not change
        entries += entries_of(group, names) * extra.repeat if group else []
        logger.info("%d videos of %s %s, %d classes are new", len(group), extra.source, extra.train, len(new))
    return ListedEntries(entries), names, read.first_label


def _evaluation_part(
    data: DataConfig, names: tuple[str, ...], first_label: int | None
) -> ListedEntries | Shards | None:
    """Return the evaluation data; its first label is that of the training list."""
    if not data.val:
        if data.val_split:
            raise ConfigError("data.val_split needs data.val")
        return None
    if data.source == "shards":
        return Shards(find_shards(data.val))
    listing = _listing(data, data.val)
    rows = _rows_of(listing, data.val_split or "val", "data.val_split", must_apply=bool(data.val_split))
    read = IndexedRows(names=names, rows=[], first_label=first_label)
    return ListedEntries(
        entries_of(index_labels_like(read, rows, listing, Path(data.classes) if data.classes else None), names)
    )


def _listing(data: DataConfig, path: str) -> Listing:
    """Read a list, and log its description."""
    root = Path(data.root) if data.root else None
    listing = read_listing(Path(path), ListOptions(kind=data.source, root=root, fold=data.fold))
    for line in listing.layout():
        logger.info("%s", line)
    return listing


def _rows_of(listing: Listing, part: str, option: str, *, must_apply: bool = False) -> list[ListRow]:
    """Return the rows of a part; all rows of a list without parts."""
    return rows_of_part(listing, part if listing.parts or must_apply else "", option=option)


def _extra_rows(extra: ExtraSource, names: tuple[str, ...]) -> list[ListRow]:
    root = Path(extra.root) if extra.root else None
    listing = read_listing(Path(extra.train), ListOptions(kind=extra.source, root=root))
    rows = _rows_of(listing, "train", "data.extra")
    if any(row.name is None for row in rows):
        rows = index_labels(rows, listing, names).rows
    else:
        refuse_numbers_as_names(rows)
    return with_known_names(rows, names)
