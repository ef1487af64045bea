"""Use of API keys with limits, counted in the database, so that all servers of one database share the counts.

The library `limits` stores counts in memory, Redis, Memcached, MongoDB or etcd, not in SQL, so it is not used. The rate
is the generic cell rate algorithm (ITU-T I.371), which needs one time per key. A request in progress has a row, which
expires, so that a server that was killed gives its requests back.
"""

import math
import secrets
import time
from dataclasses import dataclass, replace

import sqlalchemy as sa

from serve.access.keys import ApiKey
from serve.access.limits import DAY_SECONDS, QuotaState
from serve.errors import QuotaExceeded
from serve.store.database import Database
from serve.store.schema import api_keys, key_requests, key_usage

REQUEST_SECONDS = 7200.0  # after which a request in progress does not count any more; longer than every deadline of one
CONCURRENCY_RETRY_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class KeyUse:
    """The use of a key by one request."""

    request_id: str | None  # of the row of the request in progress; None if it was rejected or there is no such limit
    states: tuple[QuotaState, ...]

    def raise_if_rejected(self) -> None:
        """Raise an error if a limit rejects the request.

        Raises:
            QuotaExceeded: a limit of the key is reached.
        """
        rejecting = [state for state in self.states if state.retry_seconds is not None]
        if not rejecting:
            return
        worst = max(rejecting, key=lambda state: state.retry_seconds or 0.0)
        seconds = max(1, math.ceil(worst.retry_seconds or 0.0))
        window = "concurrent requests" if worst.window_seconds is None else f"requests in {worst.window_seconds} s"
        raise QuotaExceeded(
            f"the key may send {worst.quota} {window}; try again in {seconds} s",
            quota=worst.name,
            limit=worst.quota,
            retry_after_seconds=seconds,
        )


class UsageStore:
    """Counts requests of keys; used from worker threads, never from the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, key: ApiKey) -> KeyUse:
        """Count a request of a key, unless a limit rejects it; rejected requests are not counted.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        now = time.time()
        with self._database.writing() as connection:
            lock = sa.select(api_keys.c.key_id).where(api_keys.c.key_id == key.key_id).with_for_update()
            connection.execute(lock)  # one request of a key at a time; SQLite has one writer anyway
            row = connection.execute(sa.select(key_usage).where(key_usage.c.key_id == key.key_id)).first()
            ready_at, day, day_requests = (row.ready_at, row.day, row.day_requests) if row else (now, 0, 0)
            today = int(now // DAY_SECONDS)
            used_today = day_requests if day == today else 0
            rate, next_ready_at = _rate_state(key, ready_at, now)
            states = [rate, _daily_state(key, used_today, now), self._concurrency_state(connection, key, now)]
            present = tuple(state for state in states if state is not None)
            if any(state.retry_seconds is not None for state in present):
                return KeyUse(request_id=None, states=present)
            values = {"ready_at": next_ready_at, "day": today, "day_requests": used_today + 1}
            if row is None:
                connection.execute(sa.insert(key_usage).values(key_id=key.key_id, **values))
            else:
                connection.execute(sa.update(key_usage).where(key_usage.c.key_id == key.key_id).values(values))
            if key.limits.max_concurrency is None:
                return KeyUse(request_id=None, states=present)
            request_id = secrets.token_hex(16)
            connection.execute(
                sa.insert(key_requests).values(
                    request_id=request_id, key_id=key.key_id, expires_at=now + REQUEST_SECONDS
                )
            )
            return KeyUse(request_id=request_id, states=present)

    def end(self, request_id: str) -> None:
        """Record that a request has ended.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        with self._database.writing() as connection:
            connection.execute(sa.delete(key_requests).where(key_requests.c.request_id == request_id))

    @staticmethod
    def _concurrency_state(connection: sa.Connection, key: ApiKey, now: float) -> QuotaState | None:
        limit = key.limits.max_concurrency
        if limit is None:
            return None
        connection.execute(
            sa.delete(key_requests).where(key_requests.c.key_id == key.key_id, key_requests.c.expires_at < now)
        )
        query = sa.select(sa.func.count()).select_from(key_requests).where(key_requests.c.key_id == key.key_id)
        in_progress = int(connection.execute(query).scalar_one())
        is_full = in_progress >= limit
        return QuotaState(
            name="concurrency",
            quota=limit,
            remaining=max(0, limit - in_progress - 1),
            reset_seconds=0,
            window_seconds=None,
            retry_seconds=CONCURRENCY_RETRY_SECONDS if is_full else None,
        )


def _rate_state(key: ApiKey, ready_at: float, now: float) -> tuple[QuotaState | None, float]:
    """Return the state of the rate, and the time at which the whole burst is available again after this request."""
    requests, seconds = key.limits.rate_requests, key.limits.rate_seconds
    if requests is None or seconds is None:
        return None, now
    interval = seconds / requests
    ahead = max(ready_at - now, 0.0) + interval  # how far the requests so far are ahead of an even rate
    state = QuotaState(
        name="rate",
        quota=requests,
        remaining=max(0, math.floor((seconds - ahead) / interval + 1e-6)),  # the sum of intervals is not exact
        reset_seconds=math.ceil(ahead),
        window_seconds=seconds,
    )
    late = ahead - seconds
    return (state if late <= interval * 1e-6 else replace(state, remaining=0, retry_seconds=late)), now + ahead


def _daily_state(key: ApiKey, used_today: int, now: float) -> QuotaState | None:
    quota = key.limits.daily_quota
    if quota is None:
        return None
    until_midnight = DAY_SECONDS - now % DAY_SECONDS
    return QuotaState(
        name="daily",
        quota=quota,
        remaining=max(0, quota - used_today - 1),
        reset_seconds=math.ceil(until_midnight),
        window_seconds=DAY_SECONDS,
        retry_seconds=until_midnight if used_today >= quota else None,
    )
