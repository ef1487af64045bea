"""The errors of actserve. They know nothing of HTTP: `problems.py` maps each to a status.

ActserveError
├── RequestError                    the caller can fix it
│   ├── InvalidOption               an option is unknown, of the wrong type or out of range
│   ├── UnknownModel, UnknownVocabulary, UnknownLabel, UnknownExample
│   ├── UploadTooLarge              passed the limit while it arrived
│   ├── UnsupportedMedia            container or codec outside the allowed list, or no video at all
│   ├── InvalidVocabulary           labels or templates that cannot be scored
│   ├── MissingPrecondition         a change that does not say which version it changes
│   ├── StaleVersion                it was changed meanwhile, or exists already
│   ├── ActivationUnderWay          another model is being activated
│   ├── ModelRefused                a model that cannot be served; the running one goes on
│   ├── ClientDisconnected          the client closed the connection before the answer
│   ├── FeedbackOff                 this server keeps no feedback
│   ├── UnknownFeedback
│   └── VideoError                  readable request, unusable content
│       ├── UndecodableVideo        broken, truncated or encrypted
│       │   ├── DecodeLimitExceeded the decoder passed its time, memory or processor limit
│       │   └── DecoderFault        the decoder failed in a way that is not foreseen; the log has the traceback
│       ├── VideoTooShort           it shows no frame
│       ├── VideoTooLong            longer, or more frames, than allowed
│       └── PictureTooLarge         more pixels in a frame than allowed
├── ServiceError                    the server cannot answer at present
│   ├── Overloaded                  the queue is full: refused before any work
│   ├── EngineUnavailable           the runtime is gone or not yet ready
│   ├── StoreUnavailable            the database does not answer; nothing was changed
│   ├── FeedbackUnavailable         the feedback folder cannot be used; nothing was changed
│   ├── FeedbackFull                no room for more feedback; nothing was kept
│   ├── DeadlineExceeded            the answer would come too late
│   └── EngineFailure               the runtime failed on this input
├── ConfigurationError              a setting, folder or database that cannot be used; the start stops
└── ContractError                   a model on disk that this server cannot serve
"""

from typing import Any


class ActserveError(Exception):
    """Base of the tree: one message for people and, beside it, the facts for programs.

    Errors cross process borders (decode children), so the message, the facts and the notes survive pickling.
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
    """No model of that name."""


class UnknownVocabulary(RequestError):
    """No vocabulary of that name or version."""


class UnknownLabel(RequestError):
    """The vocabulary has no such label."""


class UnknownExample(RequestError):
    """The label has no such example clip."""


class ClientDisconnected(RequestError):
    """The client closed the connection before the answer; seen in logs and metrics alone."""


class UploadTooLarge(RequestError):
    """The upload passed the limit while it arrived."""


class UnsupportedMedia(RequestError):
    """The container or codec is outside the allowed list, or the file holds no video."""


class InvalidVocabulary(RequestError):
    """Labels or templates that cannot be scored."""


class MissingPrecondition(RequestError):
    """A change has to say which version it changes."""


class StaleVersion(RequestError):
    """The thing was changed since the caller saw it, or exists already; nothing was changed."""


class ActivationUnderWay(RequestError):
    """Another model is being activated; one at a time."""


class ModelRefused(RequestError):
    """A model that cannot be served here; the running one goes on."""


class FeedbackOff(RequestError):
    """This server keeps no feedback."""


class UnknownFeedback(RequestError):
    """No feedback of that id; it may have been erased."""


class VideoError(RequestError):
    """The request can be read, the video in it cannot be used."""


class UndecodableVideo(VideoError):
    """Broken, truncated or encrypted."""


class DecodeLimitExceeded(UndecodableVideo):
    """The decoder passed its time, memory or processor limit."""


class DecoderFault(UndecodableVideo):
    """The decoder failed on the file in a way that is not foreseen; the log has the traceback."""


class VideoTooShort(VideoError):
    """The video shows no frame."""


class VideoTooLong(VideoError):
    """The video lasts longer, or has more frames, than allowed."""


class PictureTooLarge(VideoError):
    """A frame has more pixels than allowed."""


class ServiceError(ActserveError):
    """The server cannot answer at present."""


class Overloaded(ServiceError):
    """The queue is full; refused before any work was done."""


class EngineUnavailable(ServiceError):
    """The runtime is gone, or not yet ready."""


class StoreUnavailable(ServiceError):
    """The database does not answer; nothing was changed."""


class FeedbackUnavailable(ServiceError):
    """The feedback folder cannot be read or written; nothing was changed."""


class FeedbackFull(ServiceError):
    """There is no room for more feedback; nothing was kept."""


class DeadlineExceeded(ServiceError):
    """The answer would come too late."""


class EngineFailure(ServiceError):
    """The runtime failed on this input."""


class ConfigurationError(ActserveError):
    """A setting, or a folder or database it names, cannot be used."""


class ContractError(ActserveError):
    """A model on disk that this server cannot serve: names the field, what was expected and what was found."""
