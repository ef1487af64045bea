"""Labelled videos as a source of the trainer: lists, CSV files, class folders and shards, told apart by class name."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.utils.data import DataLoader, Dataset

from serve.contract import TextContract
from training.config import ConfigError, DataConfig, TrainConfig
from training.data.annotations import read_class_names
from training.data.bad_videos import BadVideos
from training.data.clips import Batch, Epochs, Sample, TestClips, TrainingClips, collate, workers_start
from training.data.listings import Entry, Row, class_names, entries_of, in_known_words, names_of, read_rows
from training.data.prompts import TemplatedPhrases
from training.data.reading import ClipReader, decode_settings
from training.data.shards import PackedClips, PackedTestClips, Shard, find_shards, read_index
from training.data.systems import clip_rule, preprocess_of
from training.models.base import VideoTextModel

logger = logging.getLogger(__name__)

CARD = """\
Trained on {num_entries:,} labelled videos of {num_classes} classes ({clips:,} clips, {minutes:.0f} minutes).
"""


class LabelledSource:
    """Videos with a class each; the model is trained against the class names under the templates."""

    weights: Mapping[str, float] = {"label": 1.0}

    def __init__(self, config: TrainConfig) -> None:
        data = config.data
        if not data.train:
            raise ConfigError(f"data.train: the source {data.source} needs a list, folder or shards to train on")
        self._config = config
        self._train, self.labels = _training_part(data)
        self._val = _evaluation_part(data, self.labels)
        if isinstance(self._train, Shards):
            self._train.refuse_too_few(data)
        self.templates = data.templates
        text = TextContract(tokenizer="clip", context_length=_context_length(config), dynamic_length=True, pad_id=0)
        self._phrases = TemplatedPhrases(self.labels, data.templates, text=text, seed=config.run.seed)
        self.tasks = {"label": (slice(0, len(self.labels)), torch.arange(len(self.labels)))}
        self._reader = ClipReader(clip_rule(data, self.labels), decode_settings(data))
        self.bad = BadVideos(num_entries=len(self._train), max_share=data.max_bad_share)
        self._bad_val = BadVideos(num_entries=len(self._val) if self._val else 0, max_share=data.max_bad_share)

    def tokens(self, step: int) -> Tensor:
        """Tokens [K, L] of all class names, each under a template drawn by the step."""
        return self._phrases.tokens(step)

    def batches(self, *, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(clips uint8 [B, T, 3, S, S], labels [B]) without end; of several ranks each has its own.

        Raises:
            TooManyBadVideosError: more entries than allowed cannot be read.
        """
        for batch in self._train.loader(self._reader, self._config, first_step=first_step):
            self.bad.note(batch.failures)
            yield batch.clips, batch.labels

    @torch.no_grad()
    def measure(self, model: VideoTextModel) -> dict[str, Any]:
        """Top-1 and top-5 (or K, where there are fewer classes) over the readable evaluation videos."""
        figures: dict[str, Any] = {"bad_training_videos": len(self.bad.reasons)}
        if self._val is None:
            return figures
        model.eval()
        texts = [model.encode_text(rows) for rows in self._phrases.rows]  # M of [K, D]
        hits: list[Tensor] = []
        for batch in self._val.test_loader(self._reader, self._config):
            self._bad_val.note(batch.failures)
            if len(batch.labels):
                order = self._probabilities(model, batch.clips[:, 0], texts).argsort(dim=1, descending=True)
                hits.append(order == batch.labels[:, None])
        found = torch.cat(hits) if hits else torch.zeros(0, 1)
        return figures | {
            "videos": len(found),
            "bad_videos": len(self._bad_val.reasons),
            "top1": round(found[:, :1].any(dim=1).double().mean().item(), 4) if len(found) else None,
            "top5": round(found[:, :5].any(dim=1).double().mean().item(), 4) if len(found) else None,
        }

    def card(self, history: Sequence[dict[str, Any]], *, seconds: float, clips: int) -> str:
        """What the model knows, for people."""
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

    def _probabilities(self, model: VideoTextModel, clips: Tensor, texts: Sequence[Tensor]) -> Tensor:
        """Clips uint8 [B, T, 3, S, S] -> mean over templates of the class probabilities [B, K]."""
        rule = preprocess_of(self._config.data)
        mean, std = torch.tensor(rule.mean).view(3, 1, 1), torch.tensor(rule.std).view(3, 1, 1)
        video = model.encode_video((clips.float() / 255 - mean) / std)
        logits = [model.head(video.video_features, video.patch_features, text) for text in texts]
        return torch.stack([each.softmax(dim=-1) for each in logits]).mean(dim=0)


class Listed:
    """Entries of a list."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def loader(self, reader: ClipReader, config: TrainConfig, *, first_step: int) -> DataLoader[Batch]:
        """Training batches from a step on, without end."""
        rank, num_ranks = place_among_ranks()
        size, seed = config.run.batch_size, config.run.seed
        order = Epochs(
            len(self._entries), seed=seed, first=first_step * size * num_ranks, rank=rank, num_ranks=num_ranks
        )
        return _loader(TrainingClips(self._entries, reader, seed=seed), config, sampler=order)

    def test_loader(self, reader: ClipReader, config: TrainConfig) -> DataLoader[Batch]:
        """Every entry once, in order."""
        return _loader(TestClips(self._entries, reader), config)


class Shards:
    """Samples of shards."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards

    def __len__(self) -> int:
        return sum(shard.num_samples for shard in self._shards)

    def refuse_too_few(self, data: DataConfig) -> None:
        """Each loading process of each rank needs a shard of its own.

        Raises:
            ConfigError: there are more processes than shards.
        """
        needed = max(1, data.workers) * place_among_ranks()[1]
        if len(self._shards) < needed:
            raise ConfigError(
                f"data.train: {len(self._shards)} shards for {needed} loading processes; write more, smaller shards "
                "(`shard --samples-per-shard`) or take fewer workers"
            )

    def loader(self, reader: ClipReader, config: TrainConfig, *, first_step: int) -> DataLoader[Batch]:
        """Training batches from a step on, without end."""
        rank, num_ranks = place_among_ranks()
        clips = PackedClips(
            self._shards,
            reader,
            seed=config.run.seed,
            buffer=config.data.shuffle_buffer,
            batch_size=config.run.batch_size,
            first_step=first_step,
            rank=rank,
            num_ranks=num_ranks,
        )
        return _loader(clips, config)

    def test_loader(self, reader: ClipReader, config: TrainConfig) -> DataLoader[Batch]:
        """Every sample once."""
        return _loader(PackedTestClips(self._shards, reader), config)


def place_among_ranks() -> tuple[int, int]:
    """(rank, number of ranks) of this process."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def _loader(dataset: Dataset[Sample], config: TrainConfig, **options: Any) -> DataLoader[Batch]:
    return DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_size=config.run.batch_size,
        num_workers=config.data.workers,
        multiprocessing_context=workers_start(config.data.workers),
        collate_fn=collate,
        generator=torch.Generator(),  # of its own: what the loader draws for its workers must not move the run's stream
        **options,
    )


def _training_part(data: DataConfig) -> tuple[Listed | Shards, tuple[str, ...]]:
    """What is trained on, and the class names."""
    classes = Path(data.classes) if data.classes else None
    if data.source == "shards":
        if data.extra:
            raise ConfigError(
                "data.extra: shards are read in their own order; a list or folder can be joined by others"
            )
        shards = find_shards(data.train)
        names = (
            tuple(read_class_names(classes)) if classes else tuple(read_index(shards[0].path.parent).get("classes", ()))
        )
        if not names:
            raise ConfigError("data.classes: these shards do not name their classes; a CSV `id,name` is needed")
        return Shards(shards), names
    rows = _rows(data, data.train, split="train")
    names = class_names(rows, classes)
    entries = entries_of(rows, names)
    for extra in data.extra:
        found = read_rows(extra.source, Path(extra.train), root=Path(extra.root) if extra.root else None)
        group = in_known_words([row for row in found if row.split in ("", "train")], names)
        new = tuple(name for name in names_of(group) if name not in names)
        names += new  # at the end: the numbers of the others stay
        entries += entries_of(group, names) * extra.repeat if group else []
        logger.info("%d videos of %s %s, %d classes are new", len(group), extra.source, extra.train, len(new))
    return Listed(entries), names


def _evaluation_part(data: DataConfig, names: tuple[str, ...]) -> Listed | Shards | None:
    if not data.val:
        return None
    if data.source == "shards":
        return Shards(find_shards(data.val))
    return Listed(entries_of(_rows(data, data.val, split="val"), names))


def _rows(data: DataConfig, path: str, *, split: str) -> list[Row]:
    """Rows of a list; of one that names splits, only those of this one."""
    rows = read_rows(data.source, Path(path), root=Path(data.root) if data.root else None)
    return [row for row in rows if row.split in ("", split)]


def _context_length(config: TrainConfig) -> int:
    text = config.model.model.get("text", {})
    return int(text.get("context_length", 77)) if isinstance(text, Mapping) else 77
