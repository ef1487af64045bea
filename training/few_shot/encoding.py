"""Encode videos with a model, and cache the features on disk.

Each video has one view (one clip, centre crop), like the example clips on the server. All features of a video form one
vector, whose layout `serve.features.FeatureLayout` defines. Prototypes and linear heads use the prototype features if
the model has them, and otherwise the video features (for X-CLIP, those before the prompt head). Each combination of
weights and preprocessing has a cache file, in which the key is the hash of the video's content. A video whose cached
vector is damaged is encoded again.
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

MAX_CACHE_BYTES = 32 * 2**30  # per cache file; the oldest vectors are removed
HEAD_BATCH_SIZE = 64  # videos per run of a prompt head


@dataclass(frozen=True, kw_only=True)
class EncodedVideos:
    """The readable videos of a list, and their features."""

    entries: tuple[Entry, ...]
    indices: tuple[int, ...]  # indices of the entries in the list that was encoded
    digests: tuple[str, ...]  # SHA-256 of the content
    vectors: Float32Array  # [N, D + P*D + E]: video features D, patch features P*D, prototype features E
    seconds: float  # duration of hashing, decoding and encoding
    num_uncached: int  # videos that were not in the cache


class VideoEncoder:
    """Encodes videos and class names with a model; `cache` is the folder of the cache files."""

    def __init__(self, model: FewShotModel, *, cache: Path) -> None:
        self.model = model
        self._rule = _evaluation_rule(model)
        cache_key = "\n".join((model.identity, repr(model.sampling), repr(model.preprocess), "1 clip, 1 crop"))
        self.width = model.layout.width
        self._cache = FeatureCache(
            cache.expanduser() / f"{hashlib.sha256(cache_key.encode()).hexdigest()[:32]}.sqlite",
            width=self.width,
            max_bytes=MAX_CACHE_BYTES,
        )

    def encode(self, entries: Sequence[Entry], *, workers: int, max_bad_share: float) -> EncodedVideos:
        """Return the features of all readable entries; `workers` is the number of decode processes.

        Raises:
            TooManyBadVideosError: more than the fraction `max_bad_share` of the entries is unreadable.
        """
        started = time.perf_counter()
        bad = BadVideos(num_entries=len(entries), max_share=max_bad_share)
        digests: dict[int, str] = {}  # index of an entry -> digest
        for index, entry in enumerate(entries):
            try:
                digests[index] = digest_of(entry)
            except (BadVideoError, OSError) as error:
                bad.add([Failure(str(entry.path), str(error))])
        vectors = self._cache.read(sorted(set(digests.values())))
        uncached = {digest: index for index, digest in digests.items() if digest not in vectors}
        vectors |= self._encode_uncached(entries, uncached, bad, workers=workers)
        indices = tuple(index for index, digest in digests.items() if digest in vectors)
        return EncodedVideos(
            entries=tuple(entries[index] for index in indices),
            indices=indices,
            digests=tuple(digests[index] for index in indices),
            vectors=np.stack([vectors[digests[index]] for index in indices])
            if indices
            else np.empty((0, self.width), np.float32),
            seconds=time.perf_counter() - started,
            num_uncached=len(uncached),
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

    def text_logits(self, vectors: Float32Array, bank: Float32Array) -> Float32Array:
        """Compute logits [N, M, K] of vectors [N, D + P*D + E] against a bank [M, K, D], as the server does."""
        model = self.model
        if not model.layout.num_patches:
            return scoring.compute_logits(model.layout.unpack(vectors).video_features, bank, model.scoring)
        logits = []
        for batch in np.split(vectors, range(HEAD_BATCH_SIZE, len(vectors), HEAD_BATCH_SIZE)):
            features = model.layout.unpack(batch)
            assert features.patch_features is not None, "a prompt head needs patch features"
            per_template = [
                model.prompted_logits(features.video_features, features.patch_features, texts) for texts in bank
            ]
            logits.append(np.stack(per_template, axis=1))  # [batch, M, K]
        return np.concatenate(logits)

    def features(self, vectors: Float32Array) -> Float32Array:
        """Return the features for prototypes and linear heads.

        These are the prototype features [N, E] if the model has them, and otherwise the video features [N, D].
        """
        return np.ascontiguousarray(self.model.layout.unpack(vectors).prototype_or_video_features)

    def close(self) -> None:
        """Close the feature cache."""
        self._cache.close()

    def _encode_uncached(
        self, entries: Sequence[Entry], uncached: Mapping[str, int], bad: BadVideos, *, workers: int
    ) -> dict[str, Float32Array]:
        """Encode and cache videos; `uncached` maps a digest to the index of an entry. Return digest -> vector."""
        settings = decode_settings(DataConfig())

        def job(decoder: DecodeProcess, digest: str) -> UInt8Array | Failure:
            entry = entries[uncached[digest]]
            try:
                return ClipReader(self._rule, settings, decoder=decoder).test_views(entry)[0]
            except BadVideoError as error:
                return Failure(str(entry.path), str(error))

        vectors: dict[str, Float32Array] = {}
        if not uncached:
            return vectors
        with progress_bar("encoding", total=len(uncached)) as bar:
            for digest, views in for_each(list(uncached), job, settings=settings, workers=workers):
                if isinstance(views, Failure):
                    bad.add([views])
                else:
                    vectors[digest] = self._encode_view(views)
                    self._cache.write({digest: vectors[digest]})  # immediately, so that a stopped run can be resumed
                bar.advance(is_failure=isinstance(views, Failure))
        return vectors

    def _encode_view(self, views: UInt8Array) -> Float32Array:
        """Encode one view [1, T, 3, S, S] at a time, so that the vector does not depend on other videos of a batch."""
        return self.model.layout.pack(self.model.encode_video(views))


def _evaluation_rule(model: FewShotModel) -> ClipRule:
    """Return the rule that samples and crops as the model's contract says."""
    size, frames = model.preprocess.image_size, model.sampling.num_segments
    rule = clip_rule(DataConfig(image_size=size, num_frames=frames), ())
    max_num_classes = 2**31  # accept any label, because labels were validated when the list was read
    return replace(rule, num_classes=max_num_classes, sampling=model.sampling, preprocess=model.preprocess)
