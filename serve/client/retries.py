"""When a call is repeated, and after which delay.

A call is repeated if the server refused it (429 or 503: nothing was done), or if the connection could not be
established. After a connection that ended, and after 502 and 504 of a proxy, it is unknown whether the server did the
work; then only reads and calls with an idempotency key are repeated.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from serve.client.calls import Call

REFUSALS = frozenset({429, 503})
GATEWAY_FAILURES = frozenset({502, 504})
FINAL_ERRORS = (httpx.UnsupportedProtocol, httpx.ReadTimeout, httpx.WriteTimeout)  # the caller chose the timeout
NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Exponential back-off: attempt n is followed by a delay of about base_seconds * 2**(n - 1).

    The delay is at least `Retry-After`; a server that asks for more than `max_delay_seconds` is not asked again.
    """

    max_attempts: int = 4
    base_seconds: float = 0.5
    max_delay_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")
        if self.base_seconds < 0 or self.max_delay_seconds < 0:
            raise ValueError("base_seconds and max_delay_seconds must not be negative")

    def delay_after_response(self, call: Call, attempt: int, response: httpx.Response) -> float | None:
        """Return the seconds until the next attempt, or None if the response is final."""
        is_repeated = response.status_code in REFUSALS or (
            response.status_code in GATEWAY_FAILURES and call.is_safe_after_disconnect and not is_problem(response)
        )
        if not is_repeated:
            return None
        return self._delay(call, attempt, at_least=retry_after_seconds(response) or 0.0)

    def delay_after_error(self, call: Call, attempt: int, error: httpx.TransportError) -> float | None:
        """Return the seconds until the next attempt, or None if the call must not be repeated."""
        is_certain = isinstance(error, NOT_CONNECTED)
        if isinstance(error, FINAL_ERRORS) or not (is_certain or call.is_safe_after_disconnect):
            return None
        return self._delay(call, attempt, at_least=0.0)

    def _delay(self, call: Call, attempt: int, *, at_least: float) -> float | None:
        if attempt >= self.max_attempts or not call.is_repeatable or at_least > self.max_delay_seconds:
            return None
        backoff: float = min(self.base_seconds * 2 ** (attempt - 1), self.max_delay_seconds)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311  # clients that were refused together return apart
        return max(at_least, backoff * jitter)


def retry_after_seconds(response: httpx.Response) -> float | None:
    """Return the value of `Retry-After`, which is a number of seconds or a date; None without a valid one."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def is_problem(response: httpx.Response) -> bool:
    """Return whether the response is a problem of the server, rather than of a proxy."""
    return str(response.headers.get("Content-Type")).startswith("application/problem+json")
