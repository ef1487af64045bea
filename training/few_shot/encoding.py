"""Features of videos under a checkpoint, each video encoded once and kept on disk.

One view a video (one clip, centre crop), as the server looks at examples. A row is the video's features, then those of
its patches where the model has a prompt head; prototypes and linear heads use the video features, which X-CLIP has
before its prompt head. Rows are kept by the hash of the video's content, in a file for this checkpoint and these rules
of sampling and cutting; a damaged row is left out of what is read, so the video is encoded again.
"""

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from serve import scoring
from serve.arrays import Float32Array, UInt8Array
from serve.contract import file_sha256
from serve.store.kept_rows import KeptRows
from serve.text.tokenizer import Tokenizer, load_tokenizer, pad_rows
from training.checkpoints.own import Checkpoint
from training.config import ConfigError, DataConfig
from training.data.bad_videos import BadVideos, Failure
from training.data.decode_process import BadVideoError, DecodeProcess
from training.data.inspection import digest_of
from training.data.listings import Entry
from training.data.many import for_each
from training.data.progress import progress_bar
from training.data.prompts import clip_tokenizer
from training.data.reading import ClipReader, decode_settings
from training.data.systems import ClipRule, clip_rule
from training.models.base import VideoTextModel

logger = logging.getLogger(__name__)

KEPT_BYTES = 32 * 2**30  # of one file of features; the oldest leave past it
HEAD_AT_ONCE = 64  # videos a prompt head sees at once


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Readable videos of a list and their features."""

    entries: tuple[Entry, ...]
    places: tuple[int, ...]  # of the entries in the list that was given
    digests: tuple[str, ...]
    rows: Float32Array  # [N, D + P*D]
    seconds: float  # spent on videos that were not known
    num_encoded: int  # videos that were not known


class VideoEncoder:
    """A checkpoint that looks at videos and reads class names."""

    def __init__(self, checkpoint: Checkpoint, *, identity: str, cache: Path, tokenizer: Path | None = None) -> None:
        """`identity` is a hash of the weights' file.

        Raises:
            ConfigError: the checkpoint's texts need a tokenizer file.
        """
        self.model: VideoTextModel = checkpoint.build()
        self.scoring = checkpoint.scoring
        self.templates = checkpoint.text.templates
        self._text = checkpoint.text
        self._tokenizer = _tokenizer(checkpoint, tokenizer)
        self._rule = _test_rule(checkpoint)
        self._mean = torch.tensor(checkpoint.preprocess.mean).view(3, 1, 1)
        self._std = torch.tensor(checkpoint.preprocess.std).view(3, 1, 1)
        plan = "\n".join((identity, repr(checkpoint.sampling), repr(checkpoint.preprocess), "1 clip, 1 crop"))
        self.width = self._width()
        self._kept = KeptRows(
            cache.expanduser() / f"{hashlib.sha256(plan.encode()).hexdigest()[:32]}.sqlite",
            width=self.width,
            max_bytes=KEPT_BYTES,
        )

    def encode(self, entries: Sequence[Entry], *, workers: int, max_bad_share: float) -> Encoded:
        """Features of every entry that can be read.

        Raises:
            TooManyBadVideosError: more of them than allowed cannot be.
        """
        started = time.perf_counter()
        bad = BadVideos(num_entries=len(entries), max_share=max_bad_share)
        digests: dict[int, str] = {}
        for place, entry in enumerate(entries):
            try:
                digests[place] = digest_of(entry)
            except (BadVideoError, OSError) as error:
                bad.note([Failure(str(entry.path), str(error))])
        known = self._kept.read(sorted(set(digests.values())))
        absent = {digest: place for place, digest in digests.items() if digest not in known}
        known |= self._encode_new(entries, absent, bad, workers=workers)
        places = tuple(place for place, digest in digests.items() if digest in known)
        return Encoded(
            entries=tuple(entries[place] for place in places),
            places=places,
            digests=tuple(digests[place] for place in places),
            rows=np.stack([known[digests[place]] for place in places])
            if places
            else np.empty((0, self.width), np.float32),
            seconds=time.perf_counter() - started,
            num_encoded=len(absent),
        )

    @torch.no_grad()
    def bank(self, names: Sequence[str]) -> Float32Array:
        """Text features [M, K, D] of class names under the checkpoint's templates, by its ensembling rule."""
        found = []
        for template in self.templates:
            rows = self._tokenizer.encode([template.replace("{}", name) for name in names])
            length = None if self._text.dynamic_length else self._text.context_length
            tokens = torch.from_numpy(pad_rows(rows, pad_id=self._text.pad_id, length=length))
            found.append(self.model.encode_text(tokens).numpy())
        bank: Float32Array = np.stack(found)
        is_averaged = self.scoring.ensembling == "mean_embedding"
        if self.model.has_prompt_head:  # which normalises after adding the video's prompt
            return bank.mean(axis=0, keepdims=True) if is_averaged else bank
        return scoring.mean_embedding(bank) if is_averaged else scoring.unit(bank)

    @torch.no_grad()
    def text_logits(self, rows: Float32Array, bank: Float32Array) -> Float32Array:
        """Rows [N, D + P*D] against a bank [M, K, D] -> logits [N, M, K], as the server computes them."""
        if not self.model.has_prompt_head:
            return scoring.logits_of(self.video_features(rows), bank, self.scoring)
        found = []
        for part in torch.from_numpy(rows).split(HEAD_AT_ONCE):
            video, patches = part[:, : self.model.embed_dim], part[:, self.model.embed_dim :]
            patches = patches.reshape(len(part), -1, self.model.embed_dim)  # [n, P, D]
            logits = [self.model.head(video, patches, torch.from_numpy(texts)) for texts in bank]
            found.append(torch.stack(logits, dim=1).numpy())
        return np.concatenate(found) if found else np.empty((0, *bank.shape[:2]), np.float32)

    def video_features(self, rows: Float32Array) -> Float32Array:
        """The part of the rows [N, D] that is the video's; of X-CLIP, before its prompt head."""
        return rows[:, : self.model.embed_dim]

    def close(self) -> None:
        """Let go of the file of kept rows."""
        self._kept.close()

    def _encode_new(
        self, entries: Sequence[Entry], absent: Mapping[str, int], bad: BadVideos, *, workers: int
    ) -> dict[str, Float32Array]:
        settings = decode_settings(DataConfig())

        def job(decoder: DecodeProcess, digest: str) -> UInt8Array | Failure:
            entry = entries[absent[digest]]
            try:
                return ClipReader(self._rule, settings, decoder=decoder).test_views(entry)[0]
            except BadVideoError as error:
                return Failure(str(entry.path), str(error))

        found: dict[str, Float32Array] = {}
        if not absent:
            return found
        with progress_bar("encoding", total=len(absent)) as bar:
            for digest, views in for_each(list(absent), job, settings=settings, workers=workers):
                if isinstance(views, Failure):
                    bad.note([views])
                else:
                    found[digest] = self._row(views)
                    self._kept.write({digest: found[digest]})  # at once: a run that is stopped goes on from here
                bar.advance(is_failure=isinstance(views, Failure))
        return found

    @torch.no_grad()
    def _row(self, views: UInt8Array) -> Float32Array:
        """One view [1, T, 3, S, S] alone, so that a row does not depend on what is encoded beside it."""
        video = self.model.encode_video((torch.from_numpy(views).float() / 255 - self._mean) / self._std)
        parts = [video.video_features.ravel()]
        if self.model.has_prompt_head:
            assert video.patch_features is not None, "a prompt head looks at patches"
            parts.append(video.patch_features.ravel())
        return torch.cat(parts).numpy()

    def _width(self) -> int:
        preprocess, frames = self._rule.preprocess, self._rule.sampling.num_segments
        return len(self._row(np.zeros((1, frames, 3, preprocess.image_size, preprocess.image_size), np.uint8)))


def identity_of(path: Path, checkpoint: Checkpoint) -> str:
    """A hash of the weights: of the file, or what reading a folder noted."""
    return file_sha256(path) if path.is_file() else str(checkpoint.provenance["sha256"])


def _tokenizer(checkpoint: Checkpoint, path: Path | None) -> Tokenizer:
    if checkpoint.text.tokenizer == "clip":
        return clip_tokenizer(checkpoint.text)
    if path is None:
        raise ConfigError("this checkpoint's texts are cut by a tokenizer of its own: --tokenizer tokenizer.json")
    return load_tokenizer(path, checkpoint.text)


def _test_rule(checkpoint: Checkpoint) -> ClipRule:
    """The checkpoint's own test rules; labels are checked elsewhere, and nothing is augmented."""
    size, frames = checkpoint.preprocess.image_size, checkpoint.sampling.num_segments
    rule = clip_rule(DataConfig(image_size=size, num_frames=frames), ())
    return replace(rule, num_classes=2**31, sampling=checkpoint.sampling, preprocess=checkpoint.preprocess)
