"""Example clips of labels: add and remove them, and compute their features for each loaded model.

Clips are stored unmodified, so that models loaded later can decode them with their own sampling and preprocessing.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from serve import scoring
from serve.arrays import Float32Array
from serve.background import encode_views
from serve.errors import ActserveError, EngineFailure, InvalidVocabulary, UnknownExample
from serve.features import FeatureLayout, VideoFeatures
from serve.models.runtime import ModelRuntime
from serve.settings import ServeSettings
from serve.unicode_text import shown_filename
from serve.upload_folder import UploadFolder
from serve.video.workers import DecodePool, ViewRequest
from serve.vocabularies.labels import Example, Label
from serve.vocabularies.prototypes import Prototypes, fit_prototypes
from serve.vocabularies.store import VocabularyStore
from serve.vocabularies.vocabulary import LabelFinder, Vocabulary

TEXT_LOGITS_BATCH_SIZE = 64  # examples per call; bounds the memory of logits [E, M, P]

Progress = Callable[[int, int], None]  # (clips done, total)


@dataclass(frozen=True, kw_only=True)
class NewClip:
    """A file that is to be added as an example."""

    path: Path
    filename: str
    sha256: str
    num_bytes: int


def hash_clip(path: Path, filename: str) -> NewClip:
    """Hash a file. Blocks. Unprintable characters are removed from its name, which is shown to other users."""
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return NewClip(path=path, filename=shown_filename(filename), sha256=sha256, num_bytes=path.stat().st_size)


def add_examples(
    previous: Vocabulary, label_id: str, clips: Sequence[NewClip], *, settings: ServeSettings
) -> tuple[Vocabulary, tuple[Example, ...]]:
    """Add clips to a label; return the changed vocabulary and the new examples.

    Raises:
        UnknownLabel: there is no such label.
        InvalidVocabulary: the label already has one of the clips, or a limit would be exceeded.
    """
    label = LabelFinder(previous)(label_id)
    filenames = {example.sha256: example.filename for example in label.examples}
    added = []
    for clip in clips:
        if clip.sha256 in filenames:
            raise InvalidVocabulary(
                f"{clip.filename!r} is already an example of {label.name!r}, as {filenames[clip.sha256]!r}",
                filename=clip.filename,
            )
        filenames[clip.sha256] = clip.filename
        added.append(_new_example(clip))
    limits = settings.vocabularies
    for count, limit, owner in (
        (len(filenames), limits.max_examples_per_label, "label"),
        (len(previous.examples) + len(added), limits.max_examples, "vocabulary"),
    ):
        if count > limit:
            raise InvalidVocabulary(f"{count} examples, at most {limit} per {owner} are allowed", limit=limit)
    changed = replace(label, examples=(*label.examples, *added))
    return _replace_label(previous, changed), tuple(added)


def remove_examples(previous: Vocabulary, label_id: str, example_id: str | None) -> Vocabulary:
    """Remove one example of a label, or all of them if `example_id` is None; return the changed vocabulary.

    Raises:
        UnknownLabel, UnknownExample: there is no such label or example.
    """
    label = LabelFinder(previous)(label_id)
    remaining = tuple(example for example in label.examples if example_id not in (None, example.example_id))
    if len(remaining) == len(label.examples):
        raise UnknownExample(
            f"label {label.name!r} has no example {example_id!r}" if example_id else f"{label.name!r} has no examples"
        )
    return _replace_label(previous, replace(label, examples=remaining))


class ExampleEncoder:
    """Computes features of example clips for loaded models, and caches them on disk."""

    def __init__(
        self, pool: DecodePool, store: VocabularyStore, *, folder: UploadFolder, settings: ServeSettings
    ) -> None:
        self._pool = pool
        self._store = store
        self._folder = folder
        self._settings = settings

    async def prototypes(
        self, vocabulary: Vocabulary, runtime: ModelRuntime, *, progress: Progress | None = None
    ) -> Prototypes | None:
        """Fit the prototypes of a vocabulary's examples under a model; None if it has no examples.

        Raises:
            ActserveError: a clip cannot be read; the message contains its hash.
        """
        if not vocabulary.examples:
            return None
        hashes = [example.sha256 for _, example in vocabulary.examples]
        features = await self.features(runtime, hashes, progress=progress)
        templates = vocabulary.templates or runtime.contract.text.templates
        bank = await runtime.bank_builder.build(vocabulary.phrases, templates)
        text_logits = await self._text_logits(runtime, features, bank, vocabulary)
        return await asyncio.to_thread(
            fit_prototypes,
            features.prototype_or_video_features,
            np.array([index for index, _ in vocabulary.examples], np.int64),
            text_logits,
            num_labels=len(vocabulary.labels),
            logit_scale=runtime.contract.scoring.logit_scale,
        )

    async def features(
        self,
        runtime: ModelRuntime,
        hashes: Sequence[str],
        *,
        files: Mapping[str, Path] | None = None,
        progress: Progress | None = None,
    ) -> VideoFeatures:
        """Return features of the clips with these hashes, one view each.

        `files` maps hashes to files, for clips that are not in the store yet.

        Raises:
            VideoError, UnsupportedMedia: a clip cannot be decoded.
            UnknownExample: a clip is not in the store.
        """
        rows = await asyncio.to_thread(runtime.clip_cache.read, list(dict.fromkeys(hashes)))
        uncached = [sha256 for sha256 in dict.fromkeys(hashes) if sha256 not in rows]
        for done, sha256 in enumerate(uncached, start=1):
            rows[sha256] = await self._encode(runtime, sha256, (files or {}).get(sha256))
            if progress is not None:
                progress(done, len(uncached))
        return FeatureLayout.of_contract(runtime.contract).unpack(np.stack([rows[sha256] for sha256 in hashes]))

    async def _encode(self, runtime: ModelRuntime, sha256: str, file: Path | None) -> Float32Array:
        """Decode and encode one clip; return its features as one cache row."""
        contract = runtime.contract
        request = ViewRequest(sampling=contract.sampling, preprocess=contract.preprocess, num_clips=1, num_crops=1)
        path = file or self._folder.new()
        try:
            if file is None:
                body = await asyncio.to_thread(self._store.clip, sha256)
                await asyncio.to_thread(path.write_bytes, body)
            decoded = await self._pool.views(path, request)
        except ActserveError as error:
            raise type(error)(f"example clip {sha256[:12]}: {error.message}", **error.details) from error
        finally:
            if file is None:
                await asyncio.to_thread(path.unlink, missing_ok=True)
        deadline = asyncio.get_running_loop().time() + self._settings.limits.request_deadline_seconds
        features = await encode_views(runtime.engine, decoded.views, deadline=deadline)
        row = FeatureLayout.of_contract(contract).pack(features)
        if not np.isfinite(row).all():
            raise EngineFailure("the video graph returned values that are not finite")
        await asyncio.to_thread(runtime.clip_cache.write, {sha256: row})
        return row

    async def _text_logits(
        self, runtime: ModelRuntime, features: VideoFeatures, bank: Float32Array, vocabulary: Vocabulary
    ) -> Float32Array:
        """Return the text-only logits of examples [E, K + R], averaged over templates."""
        batches = []
        for start in range(0, len(features.video_features), TEXT_LOGITS_BATCH_SIZE):
            logits = await runtime.logits(features.rows(start, start + TEXT_LOGITS_BATCH_SIZE), bank)  # [e, M, P]
            classes = (
                logits if vocabulary.phrase_layout is None else scoring.label_logits(logits, vocabulary.phrase_layout)
            )
            batches.append(classes.mean(axis=1, dtype=np.float32))
        return np.concatenate(batches)


def _replace_label(previous: Vocabulary, changed: Label) -> Vocabulary:
    labels = tuple(changed if label.label_id == changed.label_id else label for label in previous.labels)
    return replace(previous, labels=labels)


def _new_example(clip: NewClip) -> Example:
    return Example(
        example_id=secrets.token_hex(6),
        sha256=clip.sha256,
        filename=clip.filename,
        num_bytes=clip.num_bytes,
        created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
