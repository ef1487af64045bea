"""Limits that holders share: a total, of which each holder may take at most as much as remains free.

The rule is that of dynamic thresholds for shared buffers (Choudhury and Hahne, 1998): one holder alone gets half of the
total, n holders get about 1/(n+1) each, and the last share stays free for a holder that comes later.
"""

from collections import Counter
from collections.abc import Hashable


class SharedLimit:
    """A total of requests, views or bytes that holders take and release."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._held: Counter[Hashable] = Counter()

    def has_room(self, holder: Hashable, amount: int = 1) -> bool:
        """Return whether `holder` may take `amount` now."""
        free = self.total - self.used
        return amount <= free and self._held[holder] <= free

    def take(self, holder: Hashable, amount: int = 1) -> bool:
        """Take `amount` if there is room; return whether it was taken."""
        if not self.has_room(holder, amount):
            return False
        self.used += amount
        self._held[holder] += amount
        return True

    def release(self, holder: Hashable, amount: int = 1) -> None:
        """Release what `holder` took."""
        self.used -= amount
        self._held[holder] -= amount
        if not self._held[holder]:
            del self._held[holder]

    def held_by(self, holder: Hashable) -> int:
        """Return how much `holder` has taken."""
        return self._held[holder]
