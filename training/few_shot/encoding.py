"""Encode videos with a model, with a cache of features on disk.

Each video has one view (one clip, centre crop), as examples on the server. `serve.features` defines the layout of a
row; prototypes and linear heads use its prototype features if the model has them, else its video features, for X-CLIP
those before the prompt head. Rows are cached by the hash of the video's content, in a file per weights and
preprocessing; a damaged row is ignored and the video is encoded again.
"""

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from serve import scoring
from serve.arrays import Float32Array, UInt8Array
from serve.store.feature_cache import FeatureCache
from serve.text.encoding import encode_bank
from training.config import DataConfig
from training.data.bad_videos import BadVideos, Failure
from training.data.clips.reader import ClipReader, decode_settings
from training.data.clips.rules import ClipRule, clip_rule
from training.data.decoding.pool import for_each
from training.data.decoding.process import BadVideoError, DecodeProcess
from training.data.digests import digest_of
from training.data.lists.rows import Entry
from training.data.progress import progress_bar
from training.few_shot.models import FewShotModel

logger = logging.getLogger(__name__)

KEPT_BYTES = 32 * 2**30  # size limit of a feature file; the oldest rows are removed
HEAD_AT_ONCE = 64  # videos per run of a prompt head


@dataclass(frozen=True, kw_only=True)
class EncodedVideos:
    """Readable videos of a list and their features."""

    entries: tuple[Entry, ...]
    places: tuple[int, ...]  # indices of the entries in the given list
    digests: tuple[str, ...]
    rows: Float32Array  # [N, D + P*D + E]
    seconds: float  # spent on videos that were not cached
    num_encoded: int  # videos that were not cached


class VideoEncoder:
    """Encodes videos and class names with a model."""

    def __init__(self, model: FewShotModel, *, cache: Path) -> None:
        self.model = model
        self._rule = _test_rule(model)
        plan = "\n".join((model.identity, repr(model.sampling), repr(model.preprocess), "1 clip, 1 crop"))
        self.width = model.layout.width
        self._kept = FeatureCache(
            cache.expanduser() / f"{hashlib.sha256(plan.encode()).hexdigest()[:32]}.sqlite",
            width=self.width,
            max_bytes=KEPT_BYTES,
        )

    def encode(self, entries: Sequence[Entry], *, workers: int, max_bad_share: float) -> EncodedVideos:
        """Return the features of all readable entries.

        Raises:
            TooManyBadVideosError: too many entries are unreadable.
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
        return EncodedVideos(
            entries=tuple(entries[place] for place in places),
            places=places,
            digests=tuple(digests[place] for place in places),
            rows=np.stack([known[digests[place]] for place in places])
            if places
            else np.empty((0, self.width), np.float32),
            seconds=time.perf_counter() - started,
            num_encoded=len(absent),
        )

    def bank(self, names: Sequence[str]) -> Float32Array:
        """Return text features [M, K, D] of class names, with the templates and the ensembling rule of the model."""
        model = self.model
        return encode_bank(
            model.encode_text,
            model.tokenizer,
            names,
            text=model.text,
            scoring=model.scoring,
            has_prompt_head=model.layout.num_patches > 0,
        )

    def text_logits(self, rows: Float32Array, bank: Float32Array) -> Float32Array:
        """Compute logits [N, M, K] of rows [N, D + P*D + E] against a bank [M, K, D], as the server does."""
        model = self.model
        if not model.layout.num_patches:
            return scoring.compute_logits(model.layout.unpack(rows).video_features, bank, model.scoring)
        found = []
        for part in np.split(rows, range(HEAD_AT_ONCE, len(rows), HEAD_AT_ONCE)):
            features = model.layout.unpack(part)
            assert features.patch_features is not None, "a prompt head needs patch features"
            logits = [
                model.prompt_head_logits(features.video_features, features.patch_features, texts) for texts in bank
            ]
            found.append(np.stack(logits, axis=1))
        return np.concatenate(found)

    def features(self, rows: Float32Array) -> Float32Array:
        """Return features for prototypes and linear heads: prototype features [N, E], else [N, D]."""
        return np.ascontiguousarray(self.model.layout.unpack(rows).prototype_or_video_features)

    def close(self) -> None:
        """Close the feature cache."""
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
                    self._kept.write({digest: found[digest]})  # written at once, so that a stopped run can resume
                bar.advance(is_failure=isinstance(views, Failure))
        return found

    def _row(self, views: UInt8Array) -> Float32Array:
        """Encode one view [1, T, 3, S, S], so that a row does not depend on a batch."""
        return self.model.layout.pack(self.model.encode_video(views))


def _test_rule(model: FewShotModel) -> ClipRule:
    """Return the evaluation rules of the model; labels are checked elsewhere."""
    size, frames = model.preprocess.image_size, model.sampling.num_segments
    rule = clip_rule(DataConfig(image_size=size, num_frames=frames), ())
    return replace(rule, num_classes=2**31, sampling=model.sampling, preprocess=model.preprocess)
