"""Embeddings of texts and videos, in the response format of OpenAI's embeddings API."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serve import scoring
from serve.arrays import Float32Array, UInt8Array
from serve.background import encode_views
from serve.errors import InvalidOption
from serve.models.registry import ModelRegistry
from serve.models.runtime import ModelRuntime
from serve.settings import LimitSettings
from serve.video.view_request import ViewRequest
from serve.video.workers import DecodePool

EncodingFormat = Literal["float", "base64"]


class VideoEmbeddingOptions(BaseModel):
    """Options of a video embedding."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        None, description="Model (`name` or `name@version`); defaults to the server's default model."
    )
    encoding_format: EncodingFormat = Field(
        "float", description="`base64`: base64-encoded little-endian float32 values."
    )
    normalize: bool = Field(True, description="Scale to unit length, so that dot products equal cosine similarities.")
    num_clips: int = Field(1, ge=1, le=10, description="Number of clips sampled from the video.")
    num_crops: Literal[1, 3] = Field(
        1, description="1: centre crop; 3: the two ends and the centre of the longer side."
    )


class TextEmbeddingOptions(BaseModel):
    """Request body for text embeddings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str | list[str] = Field(
        description="One text or a list of texts; they are encoded unchanged, without a template."
    )
    model: str | None = Field(
        None, description="Model (`name` or `name@version`); defaults to the server's default model."
    )
    encoding_format: EncodingFormat = Field(
        "float", description="`base64`: base64-encoded little-endian float32 values."
    )
    normalize: bool = Field(True, description="Scale to unit length, so that dot products equal cosine similarities.")

    @model_validator(mode="after")
    def _check_input(self) -> Self:
        if not self.texts:
            raise ValueError("`input` is an empty list")
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """The input as a tuple."""
        return (self.input,) if isinstance(self.input, str) else tuple(self.input)


class Embedding(BaseModel):
    """One embedding."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Number of tokens that were encoded."""

    prompt_tokens: int = Field(description="Number of tokens of all texts; 0 for a video.")
    total_tokens: int


class EmbeddingList(BaseModel):
    """Embeddings in the order of the input."""

    object: Literal["list"] = "list"
    model: str = Field(description="`name@version`; embeddings of different versions cannot be compared.")
    data: list[Embedding]
    scored_by_cosine: bool = Field(
        description="Whether the model scores a video by the cosine similarity of these embeddings; false if it adapts "
        "text features to the video first (X-CLIP)."
    )
    usage: Usage


@dataclass(frozen=True, kw_only=True)
class EncodedFeatures:
    """Features [n, D] of texts or views as the graph computes them, and the model version that made them."""

    runtime: ModelRuntime
    features: Float32Array

    def embeddings(self, is_normalized: bool) -> Float32Array:
        """Return the features [n, D], scaled to unit length if `is_normalized`."""
        return scoring.normalize(self.features) if is_normalized else self.features

    def mean_embedding(self, is_normalized: bool) -> Float32Array:
        """Return the mean [1, D] of the features; if `is_normalized`, they and their mean are scaled to unit length."""
        mean = self.embeddings(is_normalized).mean(axis=0, keepdims=True)
        return scoring.normalize(mean) if is_normalized else mean


class Embedder:
    """Computes embeddings with the models of the server."""

    def __init__(self, pool: DecodePool, registry: ModelRegistry, limits: LimitSettings) -> None:
        self._pool = pool
        self._registry = registry
        self._limits = limits

    async def embed_texts(self, options: TextEmbeddingOptions) -> EmbeddingList:
        """Encode texts.

        Raises:
            UnknownModel: the model does not exist.
            InvalidOption: there are too many texts, or one is too long.
            InvalidVocabulary: a text cannot be encoded.
        """
        features = await self.encode_texts(options.model, options.texts)
        tokens = sum(map(len, features.runtime.tokenizer.encode(options.texts)))
        return _make_response(features.runtime, features.embeddings(options.normalize), options, num_tokens=tokens)

    async def encode_texts(self, model: str | None, texts: Sequence[str]) -> EncodedFeatures:
        """Encode texts into features [n, D]; see `embed_texts`."""
        self._check_texts(texts)
        with self._registry.use(model) as runtime:
            return EncodedFeatures(runtime=runtime, features=await runtime.bank_builder.encode_texts(texts))

    async def embed_video(self, path: Path, options: VideoEmbeddingOptions, *, deadline: float) -> EmbeddingList:
        """Encode a video as the mean of the features of its views.

        If `normalize` is set, the features and then their mean are scaled to unit length.

        Raises:
            RequestError, ServiceError: the options or the video are not valid, or a component is not available.
        """
        features = await self.encode_video(path, options, deadline=deadline)
        return _make_response(features.runtime, features.mean_embedding(options.normalize), options, num_tokens=0)

    async def encode_video(self, path: Path, options: VideoEmbeddingOptions, *, deadline: float) -> EncodedFeatures:
        """Encode the views of a video into features [V, D]; see `embed_video`."""
        self._check_clips(options)
        with self._registry.use(options.model) as runtime:
            contract = runtime.contract
            request = ViewRequest(
                sampling=contract.sampling,
                preprocess=contract.preprocess,
                num_clips=options.num_clips,
                num_crops=options.num_crops,
            )
            decoded = await self._pool.views(path, request)
            encoded = await encode_views(runtime.engine, decoded.views, deadline=deadline)
            return EncodedFeatures(runtime=runtime, features=encoded.video_features)

    async def encode_views(self, model: str | None, views: UInt8Array, *, deadline: float) -> EncodedFeatures:
        """Encode views [V, T, 3, S, S] that the caller has made by the rules of the contract into features [V, D].

        Raises:
            UnknownModel, ServiceError: the model does not exist, or a component is not available.
        """
        with self._registry.use(model) as runtime:
            encoded = await encode_views(runtime.engine, views, deadline=deadline)
            return EncodedFeatures(runtime=runtime, features=encoded.video_features)

    def check_video_options(self, options: VideoEmbeddingOptions) -> None:
        """Check the options of a video that will be encoded later.

        Raises:
            UnknownModel: the model does not exist.
            InvalidOption: `num_clips` is too large.
        """
        self._check_clips(options)
        with self._registry.use(options.model):
            pass

    def _check_clips(self, options: VideoEmbeddingOptions) -> None:
        if options.num_clips > self._limits.max_num_clips:
            raise InvalidOption(f"num_clips must be at most {self._limits.max_num_clips}, got {options.num_clips}")

    def _check_texts(self, texts: Sequence[str]) -> None:
        limits = self._limits
        if len(texts) > limits.max_candidate_labels:
            raise InvalidOption(f"`input` must have at most {limits.max_candidate_labels} texts, got {len(texts)}")
        for index, text in enumerate(texts):
            if not text.strip():
                raise InvalidOption(f"text {index} is empty")
            if len(text) > limits.max_label_chars:
                raise InvalidOption(
                    f"text {index} must have at most {limits.max_label_chars} characters, got {len(text)}",
                    index=index,
                )


def _make_response(
    runtime: ModelRuntime,
    embeddings: Float32Array,
    options: TextEmbeddingOptions | VideoEmbeddingOptions,
    *,
    num_tokens: int,
) -> EmbeddingList:
    encode = _encode_base64 if options.encoding_format == "base64" else _encode_list
    return EmbeddingList(
        model=runtime.reference,
        data=[Embedding(index=index, embedding=encode(row)) for index, row in enumerate(embeddings)],
        scored_by_cosine=not runtime.contract.has_prompt_head,
        usage=Usage(prompt_tokens=num_tokens, total_tokens=num_tokens),
    )


def _encode_list(embedding: Float32Array) -> list[float]:
    numbers: list[float] = embedding.tolist()
    return numbers


def _encode_base64(embedding: Float32Array) -> str:
    return base64.b64encode(embedding.astype("<f4").tobytes()).decode()
