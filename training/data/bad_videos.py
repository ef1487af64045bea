"""Count the entries that cannot be read: each one is logged once, and too many of them stop the run."""

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
    """Too many entries cannot be read; the message contains their number and the first reasons."""


class BadVideos:
    """The unreadable entries of a run, collected in the training process; loading workers send them with samples."""

    def __init__(self, *, num_entries: int, max_share: float) -> None:
        self._num_entries = num_entries
        self._max_share = max_share
        self.reasons: dict[str, str] = {}  # name of an entry -> reason

    def add(self, failures: Iterable[Failure]) -> None:
        """Add failures and log those of new entries.

        Raises:
            TooManyBadVideosError: the fraction of unreadable entries exceeds `max_share`.
        """
        for failure in failures:
            if failure.name in self.reasons:
                continue
            self.reasons[failure.name] = failure.reason
            logger.warning("%s cannot be used: %s", failure.name, failure.reason)
            if len(self.reasons) > self._max_share * self._num_entries:
                first_reasons = "; ".join(f"{name}: {reason}" for name, reason in list(self.reasons.items())[:3])
                raise TooManyBadVideosError(
                    f"{len(self.reasons)} of {self._num_entries} videos cannot be used; at most "
                    f"{self._max_share:.1%} are allowed (data.max_bad_share); the first are {first_reasons}"
                )
