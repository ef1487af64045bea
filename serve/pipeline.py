"""The way of a request from a file on disk to an answer; the only place that joins the stages.

options     -> model, labels, templates        (refused before any work)
bank        -> text features [M, K, D]         (cached; encoded beside the decoding)
decode pool -> views [V, T, 3, S, S] uint8
engine      -> video features [V, D]           (micro-batched with other requests)
scoring     -> scores, logits, cosines [K] -> top-k
"""

import asyncio
import time
from collections.abc import Awaitable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from serve import scoring
from serve.answers import Classification, LabelResult, ModelFacts, NoneOfThese, SamplingFacts
from serve.arrays import Float32Array
from serve.engines.base import VideoFeatures
from serve.errors import InvalidOption, InvalidVocabulary
from serve.models.registry import ModelRegistry
from serve.models.runtime import ModelRuntime
from serve.options import ClassifyOptions
from serve.settings import ServeSettings
from serve.text import prompts
from serve.video.workers import DecodedViews, DecodePool, ViewRequest
from serve.vocabularies.catalogue import Catalogue

Result = TypeVar("Result")
First = TypeVar("First")
Second = TypeVar("Second")
INLINE_SCORES = 100_000  # views x templates x labels; below it a thread costs more than the arithmetic


@dataclass(frozen=True, kw_only=True)
class Question:
    """A request's options, resolved: which model, which labels under which templates."""

    runtime: ModelRuntime
    vocabulary: str | None  # `name@version`
    labels: tuple[str, ...]
    phrases: tuple[str, ...]  # what is compared with the video; the labels themselves where they have no other phrase
    phrasing: scoring.Phrasing | None
    templates: tuple[str, ...]


class Pipeline:
    """Classifies files."""

    def __init__(
        self, pool: DecodePool, registry: ModelRegistry, catalogue: Catalogue, *, settings: ServeSettings
    ) -> None:
        self._pool = pool
        self._registry = registry
        self._catalogue = catalogue
        self._limits = settings.limits
        self._scoring = ThreadPoolExecutor(max_workers=2, thread_name_prefix="scoring")

    async def classify(self, path: Path, options: ClassifyOptions, *, deadline: float) -> Classification:
        """Classify the video at `path`; `deadline` in seconds of the event loop's clock.

        Raises:
            RequestError, ServiceError: see `serve.errors`.
        """
        question = await self._question(options)
        (bank, text_ms), (decoded, decode_ms) = await _together(
            _timed(question.runtime.bank.features(question.phrases, question.templates)),
            _timed(self._pool.views(path, _view_request(question.runtime, options))),
        )
        features, engine_ms = await _timed(question.runtime.engine.encode_video(decoded.views, deadline=deadline))
        scores, score_ms = await _timed(self._score(question, features, bank, options))
        return Classification(
            model=_model_facts(question.runtime),
            vocabulary=question.vocabulary,
            results=_results(question.labels, scores, options),
            none_of_these=NoneOfThese(score=scores.rival_score, rejected=not _is_any_accepted(scores, options)),
            sampling=_sampling_facts(decoded, options),
            timing_ms={
                "queue": round(decoded.queue_ms + features.queue_ms, 2),
                "decode": round(decode_ms - decoded.queue_ms, 2),
                "preprocess": round(decoded.preprocess_ms, 2),
                "text": round(text_ms, 2),
                "engine": round(engine_ms - features.queue_ms, 2),
                "score": round(score_ms, 2),
            },
        )

    async def _question(self, options: ClassifyOptions) -> Question:
        """Resolve names and check labels and templates.

        Raises:
            UnknownModel, UnknownVocabulary, InvalidVocabulary, InvalidOption: with what is allowed.
        """
        if options.num_clips > self._limits.max_num_clips:
            raise InvalidOption(f"num_clips is {options.num_clips}, at most {self._limits.max_num_clips} are allowed")
        runtime = self._registry.get(options.model)
        contract = runtime.contract
        if options.candidate_labels is not None:
            self._check_labels(options.candidate_labels)
            vocabulary = None
            labels = phrases = prompts.check_labels(options.candidate_labels)
        else:
            vocabulary = (
                self._catalogue.default_for(contract)
                if options.vocabulary is None
                else await self._catalogue.resolve(options.vocabulary)
            )
            labels, phrases = vocabulary.label_names, vocabulary.phrases
        own_templates = vocabulary.templates if vocabulary is not None else None
        templates = options.chosen_templates(own_templates or contract.text.templates)
        if len(templates) > self._limits.max_templates:
            raise InvalidVocabulary(f"{len(templates)} templates, at most {self._limits.max_templates} are allowed")
        return Question(
            runtime=runtime,
            vocabulary=None if vocabulary is None else vocabulary.reference,
            labels=labels,
            phrases=phrases,
            phrasing=None if vocabulary is None else vocabulary.phrasing,
            templates=prompts.check_templates(templates),
        )

    def _check_labels(self, labels: Sequence[str]) -> None:
        limits = self._limits
        if len(labels) > limits.max_candidate_labels:
            raise InvalidVocabulary(
                f"{len(labels)} candidate labels, at most {limits.max_candidate_labels} are allowed",
                num_labels=len(labels), limit=limits.max_candidate_labels,
            )  # fmt: skip
        for index, label in enumerate(labels):
            if len(label) > limits.max_label_chars:
                raise InvalidVocabulary(
                    f"label {index} has {len(label)} characters, at most {limits.max_label_chars} are allowed",
                    index=index,
                )

    async def _score(
        self, question: Question, features: VideoFeatures, bank: Float32Array, options: ClassifyOptions
    ) -> scoring.Scores:
        contract, phrasing = question.runtime.contract.scoring, question.phrasing
        function = options.chosen_function(contract.activation)
        if question.runtime.contract.has_prompt_head:
            per_template = [await question.runtime.engine.prompted_logits(features, rows) for rows in bank]
            logits = np.stack(per_template, axis=1)  # [V, M, K]
            return scoring.reduce_logits(logits, contract, function=function, phrasing=phrasing)
        if len(features.video_features) * bank.shape[0] * bank.shape[1] <= INLINE_SCORES:
            return scoring.score(features.video_features, bank, contract, function=function, phrasing=phrasing)
        return await asyncio.get_running_loop().run_in_executor(
            self._scoring,
            lambda: scoring.score(features.video_features, bank, contract, function=function, phrasing=phrasing),
        )


async def _timed(work: Awaitable[Result]) -> tuple[Result, float]:
    """(result, milliseconds) of an awaitable."""
    started = time.perf_counter()
    result = await work
    return result, (time.perf_counter() - started) * 1000


async def _together(first: Coroutine[Any, Any, First], second: Coroutine[Any, Any, Second]) -> tuple[First, Second]:
    """Both results; when one fails the other is cancelled, and the failure comes out as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            one, other = group.create_task(first), group.create_task(second)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return one.result(), other.result()


def _view_request(runtime: ModelRuntime, options: ClassifyOptions) -> ViewRequest:
    contract = runtime.contract
    return ViewRequest(
        sampling=contract.sampling,
        preprocess=contract.preprocess,
        num_clips=options.num_clips,
        num_crops=options.num_crops,
    )


def _model_facts(runtime: ModelRuntime) -> ModelFacts:
    contract = runtime.contract
    return ModelFacts(name=contract.name, version=str(contract.version), engine=runtime.engine.label)


def _results(labels: Sequence[str], scores: scoring.Scores, options: ClassifyOptions) -> list[LabelResult]:
    return [
        LabelResult(
            label=labels[k],
            score=None if scores.scores is None else float(scores.scores[k]),
            logit=float(scores.logits[k]),
            cosine=float(scores.cosines[k]),
            accepted=_is_accepted(None if scores.scores is None else float(scores.scores[k]), scores, options),
        )
        for k in scoring.top_k(scores, options.top_k)
    ]


def _is_accepted(score: float | None, scores: scoring.Scores, options: ClassifyOptions) -> bool:
    """Whether a label's score reaches the threshold and is above that of the rivals; each where there is one."""
    if score is None:
        return options.threshold is None
    return score >= (options.threshold or 0.0) and (scores.rival_score is None or score > scores.rival_score)


def _is_any_accepted(scores: scoring.Scores, options: ClassifyOptions) -> bool:
    return _is_accepted(None if scores.scores is None else scores.best, scores, options)


def _sampling_facts(decoded: DecodedViews, options: ClassifyOptions) -> SamplingFacts:
    metadata = decoded.metadata
    return SamplingFacts(
        num_frames=metadata.num_frames,
        fps=metadata.fps,
        duration_seconds=metadata.duration_seconds,
        width=metadata.width,
        height=metadata.height,
        frame_indices=decoded.frame_indices.tolist(),
        pts_seconds=np.round(decoded.pts_seconds, 6).tolist(),
        num_clips=options.num_clips,
        num_crops=options.num_crops,
    )
