"""Webhooks of finished jobs: signed as Standard Webhooks describes, tried again for two days, every attempt recorded.

Deliveries are rows of the store, so they survive a restart, and one gateway at a time makes an attempt.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import sqlalchemy as sa
from standardwebhooks import Webhook

from serve.errors import AddressRefused, FetchFailed
from serve.jobs.changes import clock
from serve.jobs.outgoing import OutgoingClient
from serve.store.database import Database
from serve.store.schema import webhook_attempts, webhook_deliveries

RETRY_SECONDS = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0)  # 51 hours in all
CLAIM_SECONDS = 600.0  # longer than an attempt takes
GONE = 410  # the receiver wants no more, by the specification
Outcome = Literal["delivered", "retried", "failed"]


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A webhook that is due."""

    job_id: str
    url: str
    body: str
    attempt: int  # from 1


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How an attempt ended; without a status, `fault` says why."""

    status: int | None
    fault: str | None
    is_final: bool  # no further attempt can succeed
    duration_ms: float

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver accepted it."""
        return self.status is not None and 200 <= self.status < 300


class DeliveryStore:
    """Deliveries in the store; every method blocks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self) -> Delivery | None:
        """Take the delivery that is due for longest; None if none is due."""
        table = webhook_deliveries
        with self._database.writing() as connection:
            now = clock(connection)
            row = connection.execute(
                sa.select(table)
                .where(table.c.state == "pending", table.c.next_at <= now)
                .order_by(table.c.next_at)
                .limit(1)
                .with_for_update(skip_locked=True)
            ).first()
            if row is None:
                return None
            connection.execute(table.update().where(table.c.job_id == row.job_id).values(next_at=now + CLAIM_SECONDS))
        return Delivery(job_id=row.job_id, url=row.url, body=row.body, attempt=row.num_attempts + 1)

    def record(self, delivery: Delivery, attempt: Attempt) -> Outcome | None:
        """Record an attempt and return what follows; None if the job was deleted or another gateway was faster."""
        table = webhook_deliveries
        is_ours = sa.and_(table.c.job_id == delivery.job_id, table.c.num_attempts == delivery.attempt - 1)
        outcome = _outcome(delivery, attempt)
        state = "pending" if outcome == "retried" else outcome
        with self._database.writing() as connection:
            now = clock(connection)
            delay = RETRY_SECONDS[delivery.attempt - 1] if outcome == "retried" else 0.0
            changed = connection.execute(
                table.update().where(is_ours).values(state=state, num_attempts=delivery.attempt, next_at=now + delay)
            )
            if not changed.rowcount:
                return None
            connection.execute(
                webhook_attempts.insert().values(
                    job_id=delivery.job_id,
                    number=delivery.attempt,
                    created_at=now,
                    status=attempt.status,
                    fault=attempt.fault,
                    duration_ms=attempt.duration_ms,
                )
            )
        return outcome


async def deliver(client: OutgoingClient, delivery: Delivery, secret: str) -> Attempt:
    """Make one attempt to deliver a webhook."""
    started = time.perf_counter()
    status, fault, is_final = None, None, False
    try:
        status = await client.post(delivery.url, delivery.body, signed_headers(delivery, secret))
        is_final = status == GONE
    except (AddressRefused, FetchFailed) as error:
        fault, is_final = error.message, isinstance(error, AddressRefused)
    duration_ms = (time.perf_counter() - started) * 1000
    return Attempt(status=status, fault=fault, is_final=is_final, duration_ms=round(duration_ms, 1))


def signed_headers(delivery: Delivery, secret: str) -> dict[str, str]:
    """Return the headers of a webhook; its id is the same in every attempt."""
    now = datetime.now(UTC)
    message_id = f"msg_{delivery.job_id}"
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, delivery.body),
    }


async def deliver_due(store: DeliveryStore, client: OutgoingClient, secret: str) -> Outcome | None:
    """Make the next attempt that is due; return what follows, None if none was due."""
    delivery = await asyncio.to_thread(store.take)
    if delivery is None:
        return None
    return await asyncio.to_thread(store.record, delivery, await deliver(client, delivery, secret))


def _outcome(delivery: Delivery, attempt: Attempt) -> Outcome:
    if attempt.is_delivered:
        return "delivered"
    return "failed" if attempt.is_final or delivery.attempt > len(RETRY_SECONDS) else "retried"
