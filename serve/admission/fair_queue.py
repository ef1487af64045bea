"""A queue that serves groups, and the clients of each group, in proportion to their cost.

Each key (a group, or a client of a group) has a virtual time, the cost it was served; the key with the smallest one is
served next. A key that joins starts at the virtual time of the last key served, so that nobody saves up unused service
(start-time fair queueing, Goyal, Vin and Cheng, 1996).
"""

from collections import deque
from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class VirtualTimes:
    """Virtual times of the keys that compete at one level."""

    def __init__(self) -> None:
        self._times: dict[str, float] = {}
        self._now = 0.0

    def join(self, key: str) -> None:
        """Let a key compete, unless it does already."""
        self._times[key] = max(self._times.get(key, 0.0), self._now)

    def next_of(self, keys: Collection[str]) -> str:
        """Return the key to be served; among equal ones, the first."""
        return min(keys, key=self._times.__getitem__)

    def charge(self, key: str, cost: float) -> None:
        """Record that a key is served."""
        self._now = max(self._now, self._times[key])
        self._times[key] += cost

    def leave(self, active: Collection[str]) -> None:
        """Forget keys that do not compete any more; a key that was served ahead of the others is remembered."""
        self._times = {key: time for key, time in self._times.items() if key in active or time > self._now}


class FairQueue(Generic[Item]):
    """Items of groups and their clients; each client is served in the order of its items."""

    def __init__(self) -> None:
        self._group_times = VirtualTimes()
        self._client_times: dict[str, VirtualTimes] = {}
        self._items: dict[str, dict[str, deque[tuple[Item, float]]]] = {}  # group -> client -> items with their cost

    def __len__(self) -> int:
        return sum(len(items) for clients in self._items.values() for items in clients.values())

    @property
    def groups(self) -> Collection[str]:
        """The groups that have items."""
        return self._items.keys()

    def push(self, group: str, client: str, item: Item, cost: float) -> None:
        """Add an item."""
        clients = self._items.setdefault(group, {})
        clients.setdefault(client, deque()).append((item, cost))
        self._group_times.join(group)
        self._client_times.setdefault(group, VirtualTimes()).join(client)

    def pop(self, groups: Collection[str]) -> Item | None:
        """Remove and return the item to be served next of these groups; None if they have none."""
        candidates = [group for group in self._items if group in groups]
        if not candidates:
            return None
        group = self._group_times.next_of(candidates)
        clients, times = self._items[group], self._client_times[group]
        client = times.next_of(clients)
        item, cost = clients[client].popleft()
        times.charge(client, cost)
        self._group_times.charge(group, cost)
        self._tidy(group, client)
        return item

    def remove(self, group: str, client: str, item: Item) -> None:
        """Remove an item that is not to be served any more, if it is still in the queue."""
        items = self._items.get(group, {}).get(client)
        if items is None:
            return
        remaining = deque(entry for entry in items if entry[0] != item)
        self._items[group][client] = remaining
        self._tidy(group, client)

    def _tidy(self, group: str, client: str) -> None:
        clients = self._items[group]
        if not clients[client]:
            del clients[client]
            self._client_times[group].leave(clients)
        if not clients:
            del self._items[group]
            self._group_times.leave(self._items)
