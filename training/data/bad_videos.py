"""Counts entries that cannot be read: each is logged once, and too many stop the run."""

import logging
from collections.abc import Iterable
from typing import NamedTuple

from training.errors import WorkError

logger = logging.getLogger(__name__)


class Failure(NamedTuple):
    """An entry that could not be read, with the reason."""

    name: str
    reason: str


class TooManyBadVideosError(WorkError):
    """Too many entries cannot be read; the message has the count and the first ones."""


class BadVideos:
    """Unreadable entries, collected in the training process; workers send failures with their samples."""

    def __init__(self, *, num_entries: int, max_share: float) -> None:
        self._num_entries = num_entries
        self._max_share = max_share
        self.reasons: dict[str, str] = {}  # by entry

    def note(self, failures: Iterable[Failure]) -> None:
        """Log new entries.

        Raises:
            TooManyBadVideosError: their share exceeds the limit.
        """
        for failure in failures:
            if failure.name in self.reasons:
                continue
            self.reasons[failure.name] = failure.reason
            logger.warning("%s cannot be used: %s", failure.name, failure.reason)
            if len(self.reasons) > self._max_share * self._num_entries:
                first_reasons = "; ".join(f"{name}: {reason}" for name, reason in list(self.reasons.items())[:3])
                raise TooManyBadVideosError(
                    f"{len(self.reasons)} of {self._num_entries} videos cannot be used, "
                    f"allowed are {self._max_share:.1%} (data.max_bad_share); the first: {first_reasons}"
                )
