"""The errors of actserve. They know nothing of HTTP: `problems.py` maps each to a status.

ActserveError
├── RequestError                    the caller can fix it
│   ├── InvalidOption               an option is unknown, of the wrong type or out of range
│   ├── UnknownModel, UnknownVocabulary, UnknownLabel, UnknownExample
│   ├── UploadTooLarge              the upload exceeds the limit
│   ├── UnsupportedMedia            container or codec outside the allowed list, or not a video
│   ├── InvalidVocabulary           labels or templates that cannot be scored
│   ├── MissingPrecondition         the change does not name the version it is based on
│   ├── StaleVersion                the resource changed meanwhile, or exists already
│   ├── ActivationUnderWay          another activation is in progress
│   ├── ModelRefused                the model cannot be served; the active one stays
│   ├── ClientDisconnected          the client closed the connection before the answer
│   ├── Unauthenticated             the request carries no valid key
│   ├── Forbidden                   the key lacks a scope
│   ├── UnknownKey
│   ├── InvalidHeaders              what arrived is not HTTP, or its headers are too large
│   ├── SlowHeaders                 the headers were not complete in time
│   ├── MisdirectedRequest          the Host header names another server
│   ├── CrossOrigin                 a page of another origin sent a request that may change something
│   ├── FeedbackOff                 feedback is disabled
│   ├── UnknownFeedback
│   ├── UnknownJob
│   ├── IdempotencyKeyReused        the key belongs to another request
│   ├── NotEnabled                  the operator has not enabled it
│   ├── AddressRefused              the server may not connect to the address
│   ├── FetchFailed                 the input could not be fetched from its address
│   ├── UnknownVideo                there is no such stored video
│   ├── StaleVideo                  a stored video was made by another model version
│   └── VideoError                  the request is valid, its video cannot be used
│       ├── UndecodableVideo        broken, truncated or encrypted
│       │   ├── DecodeLimitExceeded the decoder exceeded its time, memory or processor limit
│       │   └── DecoderFault        the decoder failed unexpectedly; the log has the traceback
│       ├── VideoTooShort           it has no frame
│       ├── VideoTooLong            longer, or more frames, than allowed
│       └── PictureTooLarge         more pixels in a frame than allowed
├── ServiceError                    the server cannot answer at present
│   ├── Overloaded                  the queue is full; refused before any work
│   ├── EngineUnavailable           the engine is not ready, or no longer available
│   ├── StoreUnavailable            the database does not answer; nothing was changed
│   ├── FeedbackUnavailable         the feedback folder cannot be used; nothing was changed
│   ├── FeedbackFull                the limit of feedback is reached; nothing was stored
│   ├── JobsFull                    the limit of unfinished jobs is reached; nothing was stored
│   ├── JobFolderUnavailable        the folder of uploads cannot be used; nothing was stored
│   ├── InputAbandoned              the server stopped whenever it worked on the input
│   ├── VideoStoreFull              the limit of stored videos is reached; nothing was stored
│   ├── DeadlineExceeded            the answer would exceed the deadline
│   └── EngineFailure               the engine failed on this input
├── ConfigurationError              a setting, folder or database that cannot be used; the start stops
└── ContractError                   a model on disk that this server cannot serve
"""

from typing import Any


class ActserveError(Exception):
    """Base of the tree: a message for people and facts for programs.

    Errors are sent between processes, so message, facts and notes survive pickling.
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts

    def __reduce__(self) -> tuple[Any, ...]:
        notes = getattr(self, "__notes__", None)
        return _rebuild, (type(self), self.message, self.facts), {"__notes__": notes} if notes else None


def _rebuild(kind: type[ActserveError], message: str, facts: dict[str, Any]) -> ActserveError:
    return kind(message, **facts)


class RequestError(ActserveError):
    """The caller can fix it."""


class InvalidOption(RequestError):
    """An option is unknown, of the wrong type or out of range."""


class UnknownModel(RequestError):
    """There is no model of this name or version."""


class UnknownVocabulary(RequestError):
    """There is no vocabulary of this name or version."""


class UnknownLabel(RequestError):
    """The vocabulary has no such label."""


class UnknownExample(RequestError):
    """The label has no such example clip."""


class ClientDisconnected(RequestError):
    """The client closed the connection before the answer; seen in logs and metrics alone."""


class UploadTooLarge(RequestError):
    """The upload exceeds the limit."""


class UnsupportedMedia(RequestError):
    """The container or codec is outside the allowed list, or the file holds no video."""


class InvalidVocabulary(RequestError):
    """Labels or templates cannot be scored."""


class MissingPrecondition(RequestError):
    """The change does not name the version it is based on."""


class StaleVersion(RequestError):
    """The resource was changed since the client read it, or exists already; nothing was changed."""


class ActivationUnderWay(RequestError):
    """Another activation is in progress; there can be one at a time."""


class ModelRefused(RequestError):
    """The model cannot be served here; the active one stays."""


class Unauthenticated(RequestError):
    """The request carries no valid key."""


class Forbidden(RequestError):
    """The key lacks the scope that the route requires."""


class UnknownKey(RequestError):
    """There is no valid key of this name."""


class InvalidHeaders(RequestError):
    """What arrived is not an HTTP request, or its headers are too large."""


class SlowHeaders(RequestError):
    """The headers of a request were not complete in time."""


class MisdirectedRequest(RequestError):
    """The `Host` header names another server than this one."""


class CrossOrigin(RequestError):
    """A page of another origin sent a request that may change something."""


class FeedbackOff(RequestError):
    """Feedback is disabled on this server."""


class UnknownFeedback(RequestError):
    """There is no feedback with this id; it may have been erased."""


class UnknownJob(RequestError):
    """There is no job with this id; it may have been deleted."""


class IdempotencyKeyReused(RequestError):
    """The idempotency key belongs to another request."""


class NotEnabled(RequestError):
    """The operator of the server has not enabled this."""


class AddressRefused(RequestError):
    """The server may not connect to the address."""


class FetchFailed(RequestError):
    """The input could not be fetched from its address."""


class UnknownVideo(RequestError):
    """There is no stored video with this id; it may have expired or have been deleted."""


class StaleVideo(RequestError):
    """The features of the stored video were made by another model version than the one that is to score them."""


class VideoError(RequestError):
    """The request is valid, but its video cannot be used."""


class UndecodableVideo(VideoError):
    """The video is broken, truncated or encrypted."""


class DecodeLimitExceeded(UndecodableVideo):
    """The decoder exceeded its time, memory or processor limit."""


class DecoderFault(UndecodableVideo):
    """The decoder failed unexpectedly on this file; the log has the traceback."""


class VideoTooShort(VideoError):
    """The video has no frame."""


class VideoTooLong(VideoError):
    """The video is longer, or has more frames, than allowed."""


class PictureTooLarge(VideoError):
    """A frame has more pixels than allowed."""


class ServiceError(ActserveError):
    """The server cannot answer at present."""


class Overloaded(ServiceError):
    """The queue is full; refused before any work was done."""


class EngineUnavailable(ServiceError):
    """The engine is not ready, or no longer available."""


class StoreUnavailable(ServiceError):
    """The database does not answer; nothing was changed."""


class FeedbackUnavailable(ServiceError):
    """The feedback folder cannot be read or written; nothing was changed."""


class FeedbackFull(ServiceError):
    """The limit of feedback is reached; nothing was stored."""


class JobsFull(ServiceError):
    """The limit of unfinished jobs, or of their uploads, is reached; nothing was stored."""


class JobFolderUnavailable(ServiceError):
    """The folder of the uploads of jobs cannot be used; nothing was stored."""


class InputAbandoned(ServiceError):
    """The server stopped during every attempt to process the input."""


class VideoStoreFull(ServiceError):
    """The limit of stored videos is reached; nothing was stored."""


class DeadlineExceeded(ServiceError):
    """The answer would exceed the deadline."""


class EngineFailure(ServiceError):
    """The engine failed on this input."""


class ConfigurationError(ActserveError):
    """A setting, or a folder or database it names, cannot be used."""


class ContractError(ActserveError):
    """A model on disk that this server cannot serve: names the field, what was expected and what was found."""
