"""Limits of one API key: rate, concurrent requests and daily quota.

>>> parse_rate("60/m")
(60, 60)
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

RATE = re.compile(r"([1-9][0-9]{0,6})/([smh])")
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}
DAY_SECONDS = 86_400


@dataclass(frozen=True, kw_only=True)
class KeyLimits:
    """Limits of a key; None is no limit."""

    rate_requests: int | None = None  # in `rate_seconds`
    rate_seconds: int | None = None
    max_concurrency: int | None = None
    daily_quota: int | None = None

    @property
    def is_empty(self) -> bool:
        """Return whether there is no limit."""
        return self == NO_LIMITS


NO_LIMITS = KeyLimits()


@dataclass(frozen=True, kw_only=True)
class QuotaState:
    """One limit and what remains of it, as in the headers `RateLimit-Policy` and `RateLimit`."""

    name: str
    quota: int
    remaining: int
    reset_seconds: int  # until the quota is whole again; 0 for concurrent requests
    window_seconds: int | None  # None: the limit is one of concurrent requests
    retry_seconds: float | None = None  # if the limit rejects the request: when to send it again


def parse_rate(text: str) -> tuple[int, int]:
    """Return (requests, seconds) of a rate such as `10/s`, `60/m` or `1000/h`.

    Raises:
        ValueError: the text has another form.
    """
    found = RATE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a rate such as 10/s, 60/m or 1000/h")
    return int(found[1]), UNIT_SECONDS[found[2]]


def rate_limit_headers(states: Sequence[QuotaState]) -> dict[str, str]:
    """Return the headers `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).

    >>> state = QuotaState(name="rate", quota=60, remaining=59, reset_seconds=1, window_seconds=60)
    >>> rate_limit_headers([state])
    {'RateLimit-Policy': '"rate";q=60;w=60', 'RateLimit': '"rate";r=59;t=1'}
    """
    return {"RateLimit-Policy": ", ".join(map(_policy, states)), "RateLimit": ", ".join(map(_rest, states))}


def _policy(state: QuotaState) -> str:
    if state.window_seconds is None:
        return f'"{state.name}";q={state.quota};qu="concurrent-requests"'
    return f'"{state.name}";q={state.quota};w={state.window_seconds}'


def _rest(state: QuotaState) -> str:
    reset = "" if state.window_seconds is None else f";t={state.reset_seconds}"
    return f'"{state.name}";r={state.remaining}{reset}'
