"""Embeddings of texts and of a video: the features that a model compares, in the shape of OpenAI's API."""

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
    """Options of the embedding of a video."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, description="A model, `name` or `name@version`; by default that of the server.")
    encoding_format: EncodingFormat = Field(
        "float", description="`base64`: the float32 values in little-endian order, encoded as text."
    )
    normalize: bool = Field(True, description="Scale to length one, so that a dot product is a cosine.")
    num_clips: int = Field(1, ge=1, le=10, description="Number of clips sampled from the video.")
    num_crops: Literal[1, 3] = Field(1, description="1: centre crop; 3: first, last and middle along the longer side.")


class TextEmbeddingOptions(BaseModel):
    """The body of a request for the embeddings of texts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str | list[str] = Field(description="A text, or several; each is encoded as it is, without a template.")
    model: str | None = Field(None, description="A model, `name` or `name@version`; by default that of the server.")
    encoding_format: EncodingFormat = Field(
        "float", description="`base64`: the float32 values in little-endian order, encoded as text."
    )
    normalize: bool = Field(True, description="Scale to length one, so that a dot product is a cosine.")

    @model_validator(mode="after")
    def _check_input(self) -> Self:
        if not self.texts:
            raise ValueError("`input` is an empty list")
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts, in order."""
        return (self.input,) if isinstance(self.input, str) else tuple(self.input)


class Embedding(BaseModel):
    """One embedding."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """What was encoded."""

    prompt_tokens: int = Field(description="Tokens of all texts; 0 for a video.")
    total_tokens: int


class EmbeddingList(BaseModel):
    """Embeddings in the order of the input."""

    object: Literal["list"] = "list"
    model: str = Field(description="`name@version`; embeddings of different versions cannot be compared.")
    data: list[Embedding]
    scored_by_cosine: bool = Field(
        description="Whether the model scores a video by the cosine of these embeddings; false if it adapts texts to "
        "the video first, as X-CLIP does."
    )
    usage: Usage


class Embedder:
    """Makes embeddings with the models of the server."""

    def __init__(self, pool: DecodePool, registry: ModelRegistry, limits: LimitSettings) -> None:
        self._pool = pool
        self._registry = registry
        self._limits = limits

    async def texts(self, options: TextEmbeddingOptions) -> EmbeddingList:
        """Encode texts.

        Raises:
            UnknownModel: there is no such model.
            InvalidOption: there are too many texts, or one is too long.
            InvalidVocabulary: a text cannot be encoded.
        """
        self._check_texts(options.texts)
        with self._registry.use(options.model) as runtime:
            features = await runtime.bank.text_features(options.texts)
            tokens = sum(map(len, runtime.tokenizer.encode(options.texts)))
            return _answer(runtime, features, options, num_tokens=tokens)

    async def video(self, path: Path, options: VideoEmbeddingOptions, *, deadline: float) -> EmbeddingList:
        """Encode a video: the mean over its views, each scaled to length one before if the result is.

        Raises:
            RequestError, ServiceError: see `serve.errors`.
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
            found = await encode_views(runtime.engine, decoded.views, deadline=deadline)
            features = found.video_features
            rows = (scoring.unit(features) if options.normalize else features).mean(axis=0, keepdims=True)
            return _answer(runtime, rows, options, num_tokens=0)

    def check(self, options: VideoEmbeddingOptions) -> None:
        """Check options that a video is to be encoded with later.

        Raises:
            UnknownModel, InvalidOption: with what is allowed.
        """
        self._check_clips(options)
        with self._registry.use(options.model):
            pass

    def _check_clips(self, options: VideoEmbeddingOptions) -> None:
        if options.num_clips > self._limits.max_num_clips:
            raise InvalidOption(f"num_clips is {options.num_clips}, at most {self._limits.max_num_clips} are allowed")

    def _check_texts(self, texts: Sequence[str]) -> None:
        limits = self._limits
        if len(texts) > limits.max_candidate_labels:
            raise InvalidOption(f"{len(texts)} texts, at most {limits.max_candidate_labels} are allowed")
        for index, text in enumerate(texts):
            if not text.strip():
                raise InvalidOption(f"text {index} is empty")
            if len(text) > limits.max_label_chars:
                raise InvalidOption(
                    f"text {index} has {len(text)} characters, at most {limits.max_label_chars} are allowed",
                    index=index,
                )


def _answer(
    runtime: ModelRuntime,
    features: Float32Array,
    options: TextEmbeddingOptions | VideoEmbeddingOptions,
    *,
    num_tokens: int,
) -> EmbeddingList:
    rows = scoring.unit(features) if options.normalize else features
    encode = _as_text if options.encoding_format == "base64" else _as_numbers
    return EmbeddingList(
        model=runtime.reference,
        data=[Embedding(index=index, embedding=encode(row)) for index, row in enumerate(rows)],
        scored_by_cosine=not runtime.contract.has_prompt_head,
        usage=Usage(prompt_tokens=num_tokens, total_tokens=num_tokens),
    )


def _as_numbers(row: Float32Array) -> list[float]:
    numbers: list[float] = row.tolist()
    return numbers


def _as_text(row: Float32Array) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()
