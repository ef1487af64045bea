"""The exceptions of actserve. They are independent of HTTP: `serve/api/problems.py` maps each to a status.

ActserveError
├── RequestError                    the request cannot be served; the caller can change it
│   ├── InvalidOption               an option is unknown, of the wrong type or out of range
│   ├── UnknownModel, UnknownVocabulary, UnknownLabel, UnknownExample
│   ├── UploadTooLarge              the upload exceeds the limit
│   ├── UnsupportedMedia            container or codec outside the allowed list, or not a video
│   ├── InvalidVocabulary           labels or templates cannot be scored
│   ├── MissingPrecondition         the change does not name the version it is based on
│   ├── StaleVersion                the resource changed meanwhile, or exists already
│   ├── ActivationUnderWay          another activation is in progress
│   ├── ModelRefused                the model cannot be served; the active one is unchanged
│   ├── ClientDisconnected          the client closed the connection before the response
│   ├── Unauthenticated             the request has no valid API key or token
│   ├── Forbidden                   the API key or token lacks a required scope
│   ├── QuotaExceeded               a limit of the API key is reached
│   ├── UnknownKey
│   ├── InvalidHeaders              the request is not valid HTTP, or its headers are too large
│   ├── SlowHeaders                 the headers were not complete in time
│   ├── SlowBody                    the body arrives too slowly
│   ├── MisdirectedRequest          the Host header does not name this server
│   ├── CrossOrigin                 a page of another origin sent a request that may change data
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
│       │   ├── DecodeLimitExceeded the decoder exceeded its time, memory or CPU limit
│       │   └── DecoderFault        the decoder failed unexpectedly; the log has the traceback
│       ├── VideoTooShort           the video has no frame
│       ├── VideoTooLong            the video is longer, or has more frames, than allowed
│       └── PictureTooLarge         a frame has more pixels than allowed
├── ServiceError                    the server currently cannot process the request
│   ├── Overloaded                  the queue is full; the request was rejected before any work
│   ├── ServerStopping              the server stops and accepts no more requests
│   ├── EngineUnavailable           the engine is not ready, or no longer available
│   ├── ProviderUnavailable         the keys of the identity provider cannot be fetched
│   ├── StoreUnavailable            the database cannot be used; nothing was changed
│   │   └── StoreFull               its disk is full
│   ├── FeedbackUnavailable         the feedback folder cannot be used; nothing was changed
│   ├── FeedbackFull                the feedback folder is full; nothing was stored
│   ├── JobsFull                    the limit of unfinished jobs is reached; nothing was stored
│   ├── JobFolderUnavailable        the folder of uploads cannot be used; nothing was stored
│   ├── InputAbandoned              the server stopped whenever it worked on the input
│   ├── VideoStoreFull              the limit of stored videos is reached; nothing was stored
│   ├── FolderUnavailable           a folder of the server cannot be written; nothing was stored
│   │   └── DiskFull                its disk is full
│   ├── DeadlineExceeded            the answer would exceed the deadline
│   └── EngineFailure               the engine failed on this input
├── ConfigurationError              a setting, folder or database cannot be used; startup fails
└── ContractError                   a model on disk cannot be served by this version
"""

from typing import Any


class ActserveError(Exception):
    """Base class: `message` is for people, `details` are machine-readable values for programs.

    Errors are sent between processes, so message, details and notes survive pickling.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        notes = getattr(self, "__notes__", None)
        return _rebuild, (type(self), self.message, self.details), {"__notes__": notes} if notes else None


def _rebuild(error_class: type[ActserveError], message: str, details: dict[str, Any]) -> ActserveError:
    return error_class(message, **details)


class RequestError(ActserveError):
    """The request cannot be served as it is; the caller can change it."""


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
    """The client closed the connection before the response; only logs and metrics show this error."""


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
    """The model cannot be served by this server; the active model is unchanged."""


class Unauthenticated(RequestError):
    """The request has no valid API key."""


class Forbidden(RequestError):
    """The API key lacks the scope that the route requires."""


class QuotaExceeded(RequestError):
    """A limit of the API key is reached: its rate, its concurrent requests or its daily quota."""


class UnknownKey(RequestError):
    """There is no valid API key with this name."""


class InvalidHeaders(RequestError):
    """What arrived is not an HTTP request, or its headers are too large."""


class SlowHeaders(RequestError):
    """The headers of a request were not complete in time."""


class SlowBody(RequestError):
    """The body of a request arrives more slowly than allowed."""


class MisdirectedRequest(RequestError):
    """The `Host` header does not name this server."""


class CrossOrigin(RequestError):
    """A page of another origin sent a request that may change data."""


class FeedbackOff(RequestError):
    """Feedback is disabled on this server."""


class UnknownFeedback(RequestError):
    """No feedback has this id; it may have been deleted."""


class UnknownJob(RequestError):
    """There is no job with this id; it may have been deleted."""


class IdempotencyKeyReused(RequestError):
    """The idempotency key was used before with a different request."""


class NotEnabled(RequestError):
    """The operator of the server has not enabled this."""


class AddressRefused(RequestError):
    """The server may not connect to the address."""


class FetchFailed(RequestError):
    """The input could not be fetched from its address."""


class UnknownVideo(RequestError):
    """There is no stored video with this id; it may have expired or have been deleted."""


class StaleVideo(RequestError):
    """The features of the stored video were computed by another model version, so this version cannot score them."""


class VideoError(RequestError):
    """The request is valid, but its video cannot be used."""


class UndecodableVideo(VideoError):
    """The video is broken, truncated or encrypted."""


class DecodeLimitExceeded(UndecodableVideo):
    """The decoder exceeded its time, memory or CPU limit."""


class DecoderFault(UndecodableVideo):
    """The decoder failed unexpectedly on this file; the log has the traceback."""


class VideoTooShort(VideoError):
    """The video has no frame."""


class VideoTooLong(VideoError):
    """The video is longer, or has more frames, than allowed."""


class PictureTooLarge(VideoError):
    """A frame has more pixels than allowed."""


class ServiceError(ActserveError):
    """The server currently cannot process the request."""


class Overloaded(ServiceError):
    """The queue is full; the request was rejected before any work was done."""


class ServerStopping(ServiceError):
    """The server is stopping and accepts no more requests; send it again, to another server or after the restart."""


class EngineUnavailable(ServiceError):
    """The engine is not ready, or no longer available."""


class ProviderUnavailable(ServiceError):
    """The identity provider does not respond, so that its tokens cannot be verified."""


class StoreUnavailable(ServiceError):
    """The database does not respond, or is damaged; nothing was changed."""


class StoreFull(StoreUnavailable):
    """The disk of the database is full; nothing was changed."""


class FeedbackUnavailable(ServiceError):
    """The feedback folder cannot be read or written; nothing was changed."""


class FeedbackFull(ServiceError):
    """The feedback folder is full; nothing was stored."""


class JobsFull(ServiceError):
    """The limit of unfinished jobs, or of their uploads, is reached; nothing was stored."""


class JobFolderUnavailable(ServiceError):
    """The folder for job uploads cannot be used; nothing was stored."""


class InputAbandoned(ServiceError):
    """The server stopped during every attempt to process the input."""


class VideoStoreFull(ServiceError):
    """The limit of stored videos is reached; nothing was stored."""


class FolderUnavailable(ServiceError):
    """A folder of the server cannot be written; the message names its content. Nothing was stored."""


class DiskFull(FolderUnavailable):
    """A disk of the server is full; the message names its content. Nothing was stored."""


class DeadlineExceeded(ServiceError):
    """The request could not be completed within its deadline."""


class EngineFailure(ServiceError):
    """The engine failed on this input."""


class ConfigurationError(ActserveError):
    """A setting, or the folder or database that it names, cannot be used."""


class BackupRefused(ConfigurationError):
    """A backup cannot be made or restored; nothing was changed."""


class ContractError(ActserveError):
    """A model on disk cannot be served; the message names the field, the expected value and the value found."""
