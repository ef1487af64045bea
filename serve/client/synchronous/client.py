# Generated from serve/client/asynchronous by `python -m serve.client_source`; do not edit.
"""`Client`: the API of an actserve server.

Options have the names of the HTTP API; a result is the JSON document of the response, as a `TypedDict`.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, Unpack

import httpx

from serve.client.calls import Call, Progress, Video, check_options, path_of, upload_call
from serve.client.problems import ProblemError
from serve.client.retries import RetryPolicy
from serve.client.synchronous.job import Job
from serve.client.synchronous.pages import Pages
from serve.client.synchronous.stored_video import StoredVideo
from serve.client.synchronous.transport import Transport
from serve.client.synchronous.vocabulary import Vocabulary
from serve.client.types import (
    ActivationResponse,
    Classification,
    ClassifyOptions,
    EmbeddingList,
    FeedbackOptions,
    FeedbackPage,
    FeedbackRow,
    GoogleAnnotateVideoResponse,
    JobDocument,
    JobFilter,
    JobPage,
    Limits,
    ListedVocabulary,
    ModelList,
    Readiness,
    ScoredPage,
    ScoredVideo,
    ScorePageOptions,
    SearchOptions,
    SearchResponse,
    StoredFeedback,
    StoredVideoFilter,
    StoredVideoInfo,
    StoredVideoPage,
    TextEmbeddingOptions,
    TimelineOptions,
    TimelineResponse,
    VideoEmbeddingOptions,
    VocabularyPage,
)

TIMEOUT_SECONDS = 320.0  # longer than the longest `Prefer: wait` that a server accepts
UPLOAD_SECONDS = 3700.0  # longer than the default deadlines of timelines and of uploads of jobs
PAGE_SIZE = 100
GOOGLE = "google-video-intelligence"


class Client:
    """A client of one server; use it as a context manager, or call `close`.

    `server` is its URL, by default `ACTSERVE_SERVER` or http://127.0.0.1:8080; `api_key` is by default
    `ACTSERVE_API_KEY`. `http` replaces the `httpx` client, e.g. for proxies or certificates; the caller closes it.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        api_key: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retries: RetryPolicy | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self._transport = Transport(
            server, api_key, timeout_seconds=timeout_seconds, retries=retries or RetryPolicy(), http=http
        )

    @property
    def server(self) -> str:
        """The URL of the server."""
        return self._transport.server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def send(self, call: Call) -> httpx.Response:
        """Send a call that has no method of its own, with the same retries and exceptions."""
        return self._transport.send(call)

    def lines(self, call: Call) -> Iterator[str]:
        """Send a call and yield the lines of its response while they arrive."""
        yield from self._transport.lines(call)

    def classify(
        self, video: Video, *, progress: Progress | None = None, **options: Unpack[ClassifyOptions]
    ) -> Classification:
        """Return the labels that a video shows."""
        call = _upload("/v1/classify", video, check_options(options, ClassifyOptions), progress)
        return self._transport.send_for(call, Classification)

    def timeline(
        self, video: Video, *, progress: Progress | None = None, **options: Unpack[TimelineOptions]
    ) -> TimelineResponse:
        """Return the segments of a long video that show a label."""
        call = _upload(
            "/v1/timeline", video, check_options(options, TimelineOptions), progress, timeout_seconds=UPLOAD_SECONDS
        )
        return self._transport.send_for(call, TimelineResponse)

    def google_timeline(
        self, video: Video, *, progress: Progress | None = None, **options: Unpack[TimelineOptions]
    ) -> GoogleAnnotateVideoResponse:
        """Return the timeline in the format of the Google Video Intelligence API."""
        document = {**check_options(options, TimelineOptions), "format": GOOGLE}
        call = _upload("/v1/timeline", video, document, progress, timeout_seconds=UPLOAD_SECONDS)
        return self._transport.send_for(call, GoogleAnnotateVideoResponse)

    def start_timeline(
        self,
        video: Video,
        *,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
        **options: Unpack[TimelineOptions],
    ) -> Job:
        """Create a job that makes the timeline of a video; see `create_job` for the key."""
        headers = {"Prefer": "respond-async", "Idempotency-Key": idempotency_key or _new_key()}
        document = check_options(options, TimelineOptions)
        call = _upload("/v1/timeline", video, document, progress, headers=headers, timeout_seconds=UPLOAD_SECONDS)
        return self._create_job(call)

    def embed_texts(self, texts: Sequence[str], **options: Unpack[TextEmbeddingOptions]) -> EmbeddingList:
        """Return the embeddings of texts."""
        document = {"input": list(texts), **check_options(options, TextEmbeddingOptions)}
        return self._transport.send_for(_post("/v1/embeddings", document), EmbeddingList)

    def embed_video(
        self, video: Video, *, progress: Progress | None = None, **options: Unpack[VideoEmbeddingOptions]
    ) -> EmbeddingList:
        """Return the embedding of a video."""
        call = _upload("/v1/embeddings", video, check_options(options, VideoEmbeddingOptions), progress)
        return self._transport.send_for(call, EmbeddingList)

    def create_job(
        self,
        kind: Literal["classify", "timeline", "embed"],
        videos: Sequence[Video] = (),
        *,
        folder: str | None = None,
        pattern: str | None = None,
        urls: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> Job:
        """Create a job for videos, for a folder on the server (with a `pattern` of file names), or for URLs.

        Requests with the same idempotency key create one job; by default the key is a new one, which makes the retries
        of this call safe.
        """
        document: dict[str, Any] = {"kind": kind, **({} if webhook_url is None else {"webhook_url": webhook_url})}
        headers = {"Idempotency-Key": idempotency_key or _new_key()}
        if sum((bool(videos), folder is not None, bool(urls))) != 1:
            raise TypeError("give one of videos, folder and urls")
        if videos:
            fields = {name: str(value) for name, value in document.items()}
            call = upload_call(
                "/v1/jobs", [("video", video) for video in videos], dict(options or {}), progress=progress,
                headers=headers, timeout_seconds=UPLOAD_SECONDS,
            )  # fmt: skip
            return self._create_job(call.with_fields(**fields))
        if urls:
            source: dict[str, Any] = {"urls": list(urls)}
        else:
            source = {"folder": {"path": folder, **({} if pattern is None else {"pattern": pattern})}}
        call = Call(
            method="POST", path="/v1/jobs", json={**document, "options": dict(options or {}), **source}, headers=headers
        )
        return self._create_job(call)

    def job(self, job_id: str) -> Job:
        """Return the object for a job; nothing is requested."""
        return Job(self._transport, job_id)

    def jobs(self, *, page_size: int = PAGE_SIZE, **filters: Unpack[JobFilter]) -> Pages[JobDocument, JobPage]:
        """Iterate over the jobs, newest first."""
        query = {**check_options(filters, JobFilter), "page_size": page_size}
        return Pages(self._transport, _get("/v1/jobs", query), JobPage, "jobs")

    def stored_video(self, video_id: str) -> StoredVideo:
        """Return the object for a stored video; nothing is requested."""
        return StoredVideo(self._transport, video_id)

    def stored_videos(
        self, *, page_size: int = PAGE_SIZE, **filters: Unpack[StoredVideoFilter]
    ) -> Pages[StoredVideoInfo, StoredVideoPage]:
        """Iterate over the stored videos, newest first."""
        query = {**check_options(filters, StoredVideoFilter), "page_size": page_size}
        return Pages(self._transport, _get("/v1/videos", query), StoredVideoPage, "videos")

    def classify_stored_videos(
        self, *, page_size: int = PAGE_SIZE, **options: Unpack[ScorePageOptions]
    ) -> Pages[ScoredVideo, ScoredPage]:
        """Iterate over the scores of all stored videos that a filter selects; nothing is decoded."""
        document = {**check_options(options, ScorePageOptions), "page_size": page_size}
        return Pages(
            self._transport, _post("/v1/videos:classify", document), ScoredPage, "videos",
            with_token=lambda call, token: call.with_json(page_token=token),
        )  # fmt: skip

    def search(self, text: str, **options: Unpack[SearchOptions]) -> SearchResponse:
        """Return the windows of stored videos that a text describes best."""
        query = {"q": text, **check_options(options, SearchOptions)}
        return self._transport.send_for(_get("/v1/search", query), SearchResponse)

    def search_like(
        self,
        video_id: str,
        *,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResponse:
        """Return the windows of stored videos that resemble a part of a stored video."""
        part = {"start_seconds": start_seconds, "end_seconds": end_seconds}
        example = {"video_id": video_id, **{name: value for name, value in part.items() if value is not None}}
        call = _post("/v1/search", {**example, **check_options(options, SearchOptions)})
        return self._transport.send_for(call, SearchResponse)

    def search_by_video(
        self, video: Video, *, progress: Progress | None = None, **options: Unpack[SearchOptions]
    ) -> SearchResponse:
        """Return the windows of stored videos that resemble a video."""
        call = _upload("/v1/search", video, check_options(options, SearchOptions), progress)
        return self._transport.send_for(call, SearchResponse)

    def vocabulary(self, name: str, *, author: str | None = None, wait_seconds: float = 10.0) -> Vocabulary:
        """Return the object for a vocabulary; nothing is requested.

        A change waits `wait_seconds` until the server uses it; `author` is stored with changes without an API key.
        """
        return Vocabulary(self._transport, name, author=author, wait_seconds=wait_seconds)

    def vocabularies(self, *, page_size: int = PAGE_SIZE) -> Pages[ListedVocabulary, VocabularyPage]:
        """Iterate over the vocabularies, sorted by name."""
        call = _get("/v1/vocabularies", {"page_size": page_size})
        return Pages(self._transport, call, VocabularyPage, "vocabularies")

    def models(self) -> ModelList:
        """Return the versions of the models, and which are active."""
        return self._transport.send_for(_get("/v1/models"), ModelList)

    def activate_model(
        self, name: str, *, version: int | None = None, alias: str | None = None, wait_seconds: float = 300.0
    ) -> ActivationResponse:
        """Activate a version of a model, by default its newest; if it cannot be served, nothing changes."""
        values = {"version": version, "alias": alias}
        document = {key: value for key, value in values.items() if value is not None}
        return self._change_model("/v1/models/{name}:activate", name, document, wait_seconds)

    def roll_back_model(self, name: str, *, wait_seconds: float = 300.0) -> ActivationResponse:
        """Return to the previous version of a model or of an alias."""
        return self._change_model("/v1/models/{name}:rollback", name, {}, wait_seconds)

    def send_feedback(
        self, video: Video, label: str, *, progress: Progress | None = None, **options: Unpack[FeedbackOptions]
    ) -> StoredFeedback:
        """Send a video with its correct label."""
        document = {"label": label, **check_options(options, FeedbackOptions)}
        return self._transport.send_for(_upload("/v1/feedback", video, document, progress), StoredFeedback)

    def feedback(self, *, page_size: int = PAGE_SIZE) -> Pages[FeedbackRow, FeedbackPage]:
        """Iterate over the feedback, newest first."""
        return Pages(self._transport, _get("/v1/feedback", {"page_size": page_size}), FeedbackPage, "feedback")

    def delete_feedback(self, feedback_id: str) -> None:
        """Delete a clip of the feedback with its row."""
        path = path_of("/v1/feedback/{feedback_id}", feedback_id=feedback_id)
        self._transport.send(Call(method="DELETE", path=path))

    def limits(self) -> Limits:
        """Return the limits of requests."""
        return self._transport.send_for(_get("/v1/limits"), Limits)

    def is_alive(self) -> bool:
        """Return whether the server process responds."""
        return bool((self._transport.send(_get("/healthz"))).json() == {"status": "alive"})

    def readiness(self) -> Readiness:
        """Return the engines of the active models.

        Raises:
            ProblemError: 503: the server is not ready; the problem states the reason.
        """
        return self._transport.send_for(_get("/readyz"), Readiness)

    def is_ready(self) -> bool:
        """Return whether the server is ready for requests."""
        try:
            self.readiness()
        except ProblemError:
            return False
        return True

    def metrics(self) -> str:
        """Return the metrics in the text format of Prometheus."""
        return (self._transport.send(_get("/metrics"))).text

    def _create_job(self, call: Call) -> Job:
        document = self._transport.send_for(call, JobDocument)
        return Job(self._transport, document["id"])

    def _change_model(
        self, path: str, name: str, document: Mapping[str, Any], wait_seconds: float
    ) -> ActivationResponse:
        headers = {"Prefer": f"wait={wait_seconds:g}"}
        call = Call(method="POST", path=path_of(path, name=name), json=dict(document), headers=headers)
        return self._transport.send_for(call, ActivationResponse)


def _get(path: str, query: Mapping[str, Any] | None = None) -> Call:
    return Call(method="GET", path=path, query=query or {})


def _post(path: str, document: Mapping[str, Any]) -> Call:
    return Call(method="POST", path=path, json=dict(document))


def _upload(path: str, video: Video, options: Mapping[str, Any], progress: Progress | None, **others: Any) -> Call:
    return upload_call(path, [("video", video)], options, progress=progress, **others)


def _new_key() -> str:
    return str(uuid.uuid4())
