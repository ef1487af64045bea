"""Classification pipeline, from a video file to the response; the only module that combines the stages.

options     -> model, labels, templates        (validated before any work)
bank        -> text features [M, P, D]         (cached; encoded while the video is decoded)
decode pool -> views [V, T, 3, S, S] uint8
engine      -> video features [V, D]           (micro-batched with other requests)
scoring     -> logits [V, M, P], example logits [V, K] -> scores, logits, cosines [K] -> top-k, acceptance

V views, T frames, S pixels, D embedding dimension, M templates, P phrases, K labels. Without a vocabulary, each label
is one phrase, so P = K.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from serve import scoring
from serve.api.options import ClassifyOptions, FunctionToApply
from serve.api.responses import (
    AcceptanceInfo,
    Classification,
    ExampleInfo,
    LabelResult,
    LabelScores,
    ModelInfo,
    NoneOfThese,
    SamplingInfo,
)
from serve.arrays import Float32Array, UInt8Array
from serve.background import encode_views
from serve.errors import InvalidOption, InvalidVocabulary
from serve.features import VideoFeatures
from serve.models.registry import ModelRegistry
from serve.models.runtime import ModelRuntime
from serve.settings import ServeSettings
from serve.telemetry import spans
from serve.text import prompts
from serve.video.windows import Window
from serve.video.workers import DecodedViews, DecodePool, ViewRequest
from serve.videos.half_precision import round_features
from serve.videos.records import SourceInfo, StoredVideoMetadata
from serve.videos.writer import UNKNOWN_ORIGIN, Origin, VideoSaver
from serve.vocabularies.acceptance import AcceptanceRule
from serve.vocabularies.label_warnings import VocabularyWarning, label_warnings
from serve.vocabularies.prototypes import Prototypes
from serve.vocabularies.service import VocabularyService
from serve.vocabularies.vocabulary import Vocabulary

Result = TypeVar("Result")
First = TypeVar("First")
Second = TypeVar("Second")
MAX_INLINE_LOGITS = 100_000  # up to this number of logits [V, M, P], switching to a thread takes longer than scoring


@dataclass(frozen=True, kw_only=True)
class ResolvedOptions:
    """Options of a request with names resolved to the model, vocabulary and acceptance rule."""

    runtime: ModelRuntime
    vocabulary: Vocabulary | None
    labels: tuple[str, ...]
    phrases: tuple[str, ...]  # texts that are compared with the video; without a vocabulary, the labels
    phrase_layout: scoring.PhraseLayout | None
    templates: tuple[str, ...]
    function_to_apply: FunctionToApply
    prototypes: Prototypes | None  # prototypes of the vocabulary's example clips
    acceptance_rule: AcceptanceRule
    acceptance_info: AcceptanceInfo | None

    @property
    def example_info(self) -> ExampleInfo | None:
        """How example clips contribute to the logits; None if the vocabulary has no examples."""
        return None if self.prototypes is None else ExampleInfo(**asdict(self.prototypes.fit))


@dataclass(frozen=True, kw_only=True)
class InferenceResult:
    """Features and logits of one video, before scoring."""

    features: VideoFeatures
    logits: Float32Array  # [V, M, P]
    example_logits: Float32Array | None  # [V, K], None if the vocabulary has no examples
    decoded: DecodedViews
    timing_ms: dict[str, float]


class Pipeline:
    """Classifies video files."""

    def __init__(
        self,
        pool: DecodePool,
        registry: ModelRegistry,
        vocabularies: VocabularyService,
        *,
        saver: VideoSaver,
        settings: ServeSettings,
    ) -> None:
        self._saver = saver
        self._pool = pool
        self._registry = registry
        self._vocabularies = vocabularies
        self._limits = settings.limits

    async def classify(
        self, path: Path, options: ClassifyOptions, *, deadline: float, origin: Origin = UNKNOWN_ORIGIN
    ) -> Classification:
        """Classify the video at `path`.

        `deadline` is a time of the event loop's clock in seconds. If the video is stored, `origin` is stored with it.

        Raises:
            RequestError, ServiceError: the options or the video are not valid, or a component is not available.
        """
        async with self.resolve(options) as resolved:
            computed, warnings = await _run_both(
                self.compute_logits(path, resolved, options, deadline=deadline), find_label_warnings(resolved)
            )
            with spans.span("score"):
                scores, score_ms = await _time(compute_scores(resolved, computed.logits, computed.example_logits))
            timing_ms = {**computed.timing_ms, "score": computed.timing_ms["score"] + score_ms}
            response = Classification(
                **option_fields(resolved),
                **score_fields(resolved, scores, top_k=options.top_k),
                vocabulary_warnings=warnings,
                sampling=_describe_sampling(computed.decoded, options),
                timing_ms={stage: round(value, 2) for stage, value in timing_ms.items()},
            )
            if options.store:
                response.video_id, store_ms = await _time(
                    self._store(path, computed, resolved, options, sampling=response.sampling, origin=origin)
                )
                response.timing_ms["store"] = round(store_ms, 2)
        return response

    async def classify_views(self, views: UInt8Array, options: ClassifyOptions, *, deadline: float) -> LabelScores:
        """Classify a video whose views [V, T, 3, S, S] the caller has made by the rules of the contract.

        Raises:
            RequestError, ServiceError: the options are not valid, or a component is not available.
        """
        async with self.resolve(options) as resolved:
            runtime = resolved.runtime
            bank, features = await _run_both(
                runtime.bank_builder.build(resolved.phrases, resolved.templates),
                encode_views(runtime.engine, views, deadline=deadline),
            )
            logits = await runtime.logits(features, bank)
            scores = await compute_scores(resolved, logits, _example_logits(resolved, features))
            return LabelScores(
                **option_fields(resolved),
                **score_fields(resolved, scores, top_k=options.top_k),
                vocabulary_warnings=await find_label_warnings(resolved),
            )

    async def _store(
        self,
        path: Path,
        computed: InferenceResult,
        resolved: ResolvedOptions,
        options: ClassifyOptions,
        *,
        sampling: SamplingInfo,
        origin: Origin,
    ) -> str:
        """Store the features of the views and return the video id; each view becomes a window of the whole video."""
        metadata = StoredVideoMetadata(
            engine=resolved.runtime.engine.name,
            source=SourceInfo(
                filename=origin.filename,
                num_bytes=(await asyncio.to_thread(path.stat)).st_size,
                truncated=False,
                **sampling.model_dump(include=set(SourceInfo.model_fields)),
            ),
            sampling=sampling,
            window_seconds=None,
            stride_seconds=None,
        )
        window = Window(
            start_seconds=0.0, end_seconds=sampling.duration_seconds, start_frame=0, end_frame=sampling.num_frames,
            cell_start_seconds=0.0, cell_end_seconds=sampling.duration_seconds, cell_start_frame=0,
            cell_end_frame=sampling.num_frames, frame_indices=(),
        )  # fmt: skip
        async with self._saver.writing(resolved.runtime, options, kind="clips", key_id=origin.key_id) as writer:
            await writer.add([window] * len(computed.features.video_features), computed.features)
            return (await writer.finish(metadata)).video_id

    async def compute_logits(
        self, path: Path, resolved: ResolvedOptions, options: ClassifyOptions, *, deadline: float
    ) -> InferenceResult:
        """Compute the logits of the video at `path`.

        Raises:
            RequestError, ServiceError: the options or the video are not valid, or a component is not available.
        """
        runtime = resolved.runtime
        (bank, text_ms), (decoded, decode_ms) = await _run_both(
            _time(runtime.bank_builder.build(resolved.phrases, resolved.templates)),
            _time(self._pool.views(path, _view_request(runtime, options))),
        )
        features, engine_ms = await _time(encode_views(runtime.engine, decoded.views, deadline=deadline))
        if options.store:
            features = round_features(features)  # as stored, so that rescoring gives exactly the same scores
        with spans.span("logits"):
            logits, score_ms = await _time(runtime.logits(features, bank))
        return InferenceResult(
            features=features,
            logits=logits,
            example_logits=_example_logits(resolved, features),
            decoded=decoded,
            timing_ms={
                "queue": decoded.queue_ms + features.queue_ms,
                "decode": decode_ms - decoded.queue_ms,
                "preprocess": decoded.preprocess_ms,
                "text": text_ms,
                "engine": engine_ms - features.queue_ms,
                "score": score_ms,
            },
        )

    @asynccontextmanager
    async def resolve(self, options: ClassifyOptions) -> AsyncIterator[ResolvedOptions]:
        """Resolve the options of a request; the model stays loaded until the end of the block.

        Raises:
            UnknownModel, UnknownVocabulary: there is no such model or vocabulary.
            InvalidVocabulary, InvalidOption: labels, templates or options are not allowed.
        """
        with self._registry.use(options.model) as runtime:
            yield await self._resolve(runtime, options)

    async def _resolve(self, runtime: ModelRuntime, options: ClassifyOptions) -> ResolvedOptions:
        self._saver.check(options)
        if options.num_clips > self._limits.max_num_clips:
            raise InvalidOption(f"num_clips must be at most {self._limits.max_num_clips}, got {options.num_clips}")
        contract = runtime.contract
        if options.candidate_labels is not None:
            self.check_label_limits(options.candidate_labels)
            vocabulary = None
            labels = phrases = prompts.clean_labels(options.candidate_labels)
        else:
            vocabulary = (
                self._vocabularies.catalogue.default_for(contract)
                if options.vocabulary is None
                else await self._vocabularies.catalogue.resolve(options.vocabulary)
            )
            labels, phrases = vocabulary.label_names, vocabulary.phrases
        vocabulary_templates = vocabulary.templates if vocabulary is not None else None
        templates = options.resolve_templates(vocabulary_templates or contract.text.templates)
        if options.templates is not None or options.hypothesis_template is not None:
            prompts.check_templates(templates)
        if len(templates) > self._limits.max_templates:
            raise InvalidVocabulary(f"at most {self._limits.max_templates} templates are allowed, got {len(templates)}")
        acceptance_rule, acceptance_info = _resolve_acceptance(vocabulary, runtime, options, templates)
        return ResolvedOptions(
            runtime=runtime,
            vocabulary=vocabulary,
            labels=labels,
            phrases=phrases,
            phrase_layout=None if vocabulary is None else vocabulary.phrase_layout,
            templates=templates,
            function_to_apply=options.resolve_function(contract.scoring.activation),
            prototypes=None if vocabulary is None else await self._vocabularies.encoder.prototypes(vocabulary, runtime),
            acceptance_rule=acceptance_rule,
            acceptance_info=acceptance_info,
        )

    def check_label_limits(self, labels: Sequence[str]) -> None:
        """Check the number and the lengths of the labels of a request.

        Raises:
            InvalidVocabulary: there are too many, or one is too long.
        """
        limits = self._limits
        if len(labels) > limits.max_candidate_labels:
            raise InvalidVocabulary(
                f"at most {limits.max_candidate_labels} candidate labels are allowed, got {len(labels)}",
                num_labels=len(labels), limit=limits.max_candidate_labels,
            )  # fmt: skip
        for index, label in enumerate(labels):
            if len(label) > limits.max_label_chars:
                raise InvalidVocabulary(
                    f"label {index} must have at most {limits.max_label_chars} characters, got {len(label)}",
                    index=index,
                )


def _example_logits(resolved: ResolvedOptions, features: VideoFeatures) -> Float32Array | None:
    """Return the example logits [V, K] of V views; None if the vocabulary has no examples."""
    prototypes = resolved.prototypes
    return None if prototypes is None else prototypes.logits(features.prototype_or_video_features)


async def find_label_warnings(resolved: ResolvedOptions) -> list[VocabularyWarning]:
    """Return warnings about candidate labels that the model cannot distinguish; empty if a vocabulary is used."""
    if resolved.vocabulary is not None:
        return []
    return await label_warnings(resolved.labels, resolved.templates[0], resolved.runtime)


async def compute_scores(
    resolved: ResolvedOptions, logits: Float32Array, example_logits: Float32Array | None
) -> scoring.Scores:
    """Compute the scores of the labels from the logits [V, M, P] of one video; large inputs are reduced in a thread."""
    if logits.size <= MAX_INLINE_LOGITS:
        return score_logits(resolved, logits, example_logits, scale=resolved.acceptance_rule.scale)
    return await asyncio.to_thread(score_logits, resolved, logits, example_logits, scale=resolved.acceptance_rule.scale)


def score_logits(
    resolved: ResolvedOptions, logits: Float32Array, example_logits: Float32Array | None, *, scale: scoring.LogitScaling
) -> scoring.Scores:
    """Reduce the logits [V, M, P] of one video to scores of the labels, with the given temperature and bias."""
    return scoring.reduce_logits(
        logits,
        resolved.runtime.contract.scoring,
        function=resolved.function_to_apply,
        phrase_layout=resolved.phrase_layout,
        example_logits=example_logits,
        scale=scale,
    )


def _resolve_acceptance(
    vocabulary: Vocabulary | None, runtime: ModelRuntime, options: ClassifyOptions, templates: Sequence[str]
) -> tuple[AcceptanceRule, AcceptanceInfo | None]:
    """Return the acceptance rule and its description for the response; a threshold of the request takes precedence."""
    function = options.resolve_function(runtime.contract.scoring.activation)
    acceptance = None if vocabulary is None else vocabulary.acceptance
    rule, info = AcceptanceRule(), None
    if vocabulary is not None and acceptance is not None:
        reason = acceptance.inapplicable_reason(model=runtime.reference, function=function, templates=templates)
        caveats = acceptance.caveats(digest=vocabulary.digest, num_clips=options.num_clips, num_crops=options.num_crops)
        rule = vocabulary.acceptance_rule() if reason is None else rule
        info = AcceptanceInfo(
            applied=reason is None,
            obstacle=reason,
            caveats=caveats if reason is None else [],
            false_accept_rate=None if acceptance.fitted is None else acceptance.fitted.false_accept_rate,
            false_accept_interval=None if acceptance.fitted is None else acceptance.fitted.false_accept_interval,
            **acceptance.model_dump(include={"criterion", "threshold", "temperature", "bias"}),
        )
    elif vocabulary is not None and function != "none":
        rule = vocabulary.acceptance_rule()  # the vocabulary has only per-label thresholds
    if options.threshold is not None:
        rule = AcceptanceRule(thresholds=options.threshold, scale=rule.scale)
    return rule, info


async def _time(work: Awaitable[Result]) -> tuple[Result, float]:
    """Await `work`; return its result and the duration in milliseconds."""
    started = time.perf_counter()
    result = await work
    return result, (time.perf_counter() - started) * 1000


async def _run_both(first: Coroutine[Any, Any, First], second: Coroutine[Any, Any, Second]) -> tuple[First, Second]:
    """Run two coroutines concurrently and return both results; if one fails, cancel the other and raise its error."""
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


def describe_model(runtime: ModelRuntime) -> ModelInfo:
    """Return the description of the model for a response."""
    contract = runtime.contract
    return ModelInfo(name=contract.name, version=str(contract.version), engine=runtime.engine.name)


def option_fields(resolved: ResolvedOptions) -> dict[str, Any]:
    """Return the response fields that depend only on the options."""
    return {
        "model": describe_model(resolved.runtime),
        "notice": resolved.runtime.contract.notice,
        "vocabulary": None if resolved.vocabulary is None else resolved.vocabulary.reference,
        "acceptance": resolved.acceptance_info,
        "examples": resolved.example_info,
    }


def score_fields(resolved: ResolvedOptions, scores: scoring.Scores, *, top_k: int) -> dict[str, Any]:
    """Return the response fields that depend on the scores of a video."""
    accepted = resolved.acceptance_rule.accepted(scores)
    return {
        "results": top_results(resolved.labels, scores, accepted, top_k=top_k),
        "none_of_these": NoneOfThese(score=scores.none_of_these_score, rejected=not accepted.any()),
    }


def top_results(
    labels: Sequence[str], scores: scoring.Scores, accepted: NDArray[np.bool_], *, top_k: int
) -> list[LabelResult]:
    """Return the `top_k` best labels, best first."""
    return [
        LabelResult(
            label=labels[k],
            score=None if scores.scores is None else float(scores.scores[k]),
            logit=float(scores.logits[k]),
            cosine=float(scores.cosines[k]),
            accepted=bool(accepted[k]),
        )
        for k in scoring.top_k(scores, top_k)
    ]


def _describe_sampling(decoded: DecodedViews, options: ClassifyOptions) -> SamplingInfo:
    metadata = decoded.metadata
    return SamplingInfo(
        num_frames=metadata.num_frames,
        fps=metadata.fps,
        duration_seconds=metadata.duration_seconds,
        width=metadata.width,
        height=metadata.height,
        frame_indices=decoded.frame_indices.tolist(),
        pts_seconds=np.round(decoded.pts_seconds, 6).tolist(),
        num_clips=options.num_clips,
        num_crops=options.num_crops,
        num_corrupt_frames=metadata.num_corrupt_frames,
    )
