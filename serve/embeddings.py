"""Embeddings of texts and videos, in the response format of OpenAI's embeddings API."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serve import scoring
from serve.arrays import Float32Array
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
        self._check_texts(options.texts)
        with self._registry.use(options.model) as runtime:
            features = await runtime.bank_builder.encode_texts(options.texts)
            tokens = sum(map(len, runtime.tokenizer.encode(options.texts)))
            return _make_response(runtime, features, options, num_tokens=tokens)

    async def embed_video(self, path: Path, options: VideoEmbeddingOptions, *, deadline: float) -> EmbeddingList:
        """Encode a video as the mean of the features of its views.

        If `normalize` is set, the features and then their mean are scaled to unit length.

        Raises:
            RequestError, ServiceError: the options or the video are not valid, or a component is not available.
        """
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
            features = encoded.video_features  # [V, D]
            mean = (scoring.normalize(features) if options.normalize else features).mean(axis=0, keepdims=True)
            return _make_response(runtime, mean, options, num_tokens=0)

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
    features: Float32Array,
    options: TextEmbeddingOptions | VideoEmbeddingOptions,
    *,
    num_tokens: int,
) -> EmbeddingList:
    embeddings = scoring.normalize(features) if options.normalize else features  # [n, D]
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
