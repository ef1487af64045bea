"""Log lines on standard error, as text or as one JSON object per line."""

import json
import logging
from datetime import UTC, datetime
from typing import Any, Literal

from serve.telemetry.context import current_request

LogFormat = Literal["text", "json"]
TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class RequestFilter(logging.Filter):
    """Attaches the request of the current task to each record, so that formatters in other threads see it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Set `record.request` and keep the record."""
        record.request = current_request()
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, and the request that caused the record.

    `extra={"fields": {...}}` adds fields to the object.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request = getattr(record, "request", None)
        if request is not None:
            identity = {"request_id": request.request_id, "trace_id": request.trace_id, "key": request.key_name}
            document.update({name: value for name, value in identity.items() if value})
        document.update(getattr(record, "fields", {}))
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False, default=str)


def configure_logging(level: str, log_format: LogFormat) -> None:
    """Log to standard error: actserve at `level`, libraries at WARNING and above."""
    handler = logging.StreamHandler()
    handler.addFilter(RequestFilter())
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(TEXT_FORMAT))
    logging.basicConfig(level="WARNING", handlers=[handler])
    logging.getLogger("serve").setLevel(level.upper())
    logging.captureWarnings(True)
