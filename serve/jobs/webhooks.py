"""Deliver webhooks of finished jobs, signed according to the Standard Webhooks specification.

Failed deliveries are retried for two days, and every attempt is recorded. Deliveries are stored in the database, so
they survive a restart, and only one server process at a time attempts a delivery.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import sqlalchemy as sa
from standardwebhooks import Webhook

from serve.errors import AddressRefused, FetchFailed
from serve.jobs.changes import database_time
from serve.jobs.outgoing import OutgoingClient
from serve.store.database import Database
from serve.store.schema import webhook_attempts, webhook_deliveries

# Delays before the retries; 51 hours in total.
RETRY_SECONDS = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0)
CLAIM_SECONDS = 600.0  # other processes do not attempt a delivery for this time; longer than any attempt
HTTP_GONE = 410  # the receiver does not want further webhooks, according to the specification
Outcome = Literal["delivered", "retried", "failed"]


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A webhook that is due for an attempt."""

    job_id: str
    url: str
    body: str
    attempt: int  # from 1


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Result of an attempt to deliver a webhook."""

    status: int | None  # HTTP status; None if there was no response
    error: str | None  # why there was no response
    is_permanent_failure: bool  # a retry cannot succeed
    duration_ms: float

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver accepted the webhook."""
        return self.status is not None and 200 <= self.status < 300


class DeliveryStore:
    """Reads and updates deliveries in the database. All methods block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self) -> Delivery | None:
        """Claim the delivery that has been due the longest; return None if none is due."""
        table = webhook_deliveries
        with self._database.writing() as connection:
            now = database_time(connection)
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
        """Record an attempt and return its outcome; None if the job was deleted or the attempt is already recorded."""
        table = webhook_deliveries
        is_current = sa.and_(table.c.job_id == delivery.job_id, table.c.num_attempts == delivery.attempt - 1)
        outcome = _outcome(delivery, attempt)
        state = "pending" if outcome == "retried" else outcome
        with self._database.writing() as connection:
            now = database_time(connection)
            delay = RETRY_SECONDS[delivery.attempt - 1] if outcome == "retried" else 0.0
            updated = connection.execute(
                table.update().where(is_current).values(state=state, num_attempts=delivery.attempt, next_at=now + delay)
            )
            if not updated.rowcount:
                return None
            connection.execute(
                webhook_attempts.insert().values(
                    job_id=delivery.job_id,
                    number=delivery.attempt,
                    created_at=now,
                    status=attempt.status,
                    fault=attempt.error,
                    duration_ms=attempt.duration_ms,
                )
            )
        return outcome


async def deliver(client: OutgoingClient, delivery: Delivery, secret: str) -> Attempt:
    """Make one attempt to deliver a webhook."""
    started = time.perf_counter()
    status, error_message, is_permanent_failure = None, None, False
    try:
        status = await client.post(delivery.url, delivery.body, sign_headers(delivery, secret))
        is_permanent_failure = status == HTTP_GONE
    except (AddressRefused, FetchFailed) as error:
        error_message, is_permanent_failure = error.message, isinstance(error, AddressRefused)
    duration_ms = (time.perf_counter() - started) * 1000
    return Attempt(
        status=status, error=error_message, is_permanent_failure=is_permanent_failure, duration_ms=round(duration_ms, 1)
    )


def sign_headers(delivery: Delivery, secret: str) -> dict[str, str]:
    """Return the signed headers of a webhook; all attempts have the same `webhook-id`."""
    now = datetime.now(UTC)
    message_id = f"msg_{delivery.job_id}"
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, delivery.body),
    }


async def deliver_due(store: DeliveryStore, client: OutgoingClient, secret: str) -> Outcome | None:
    """Attempt the next due delivery; return its outcome, or None if none was due or the outcome was not recorded."""
    delivery = await asyncio.to_thread(store.take)
    if delivery is None:
        return None
    return await asyncio.to_thread(store.record, delivery, await deliver(client, delivery, secret))


def _outcome(delivery: Delivery, attempt: Attempt) -> Outcome:
    if attempt.is_delivered:
        return "delivered"
    return "failed" if attempt.is_permanent_failure or delivery.attempt > len(RETRY_SECONDS) else "retried"
