"""Expiry of the credentials by which users have logged in at RabbitMQ, as this replica knows it."""

import heapq
from typing import Final

EXPIRIES_MAX: Final = 10_000


class Deadlines:
    """When the credentials expire by which users have logged in here.

    Bounded: beyond EXPIRIES_MAX the earliest is taken for expired, so that none is forgotten.
    """

    def __init__(self, limit: int = EXPIRIES_MAX) -> None:
        self._limit = limit
        self._heap: list[tuple[float, str]] = []
        self._noted: set[tuple[float, str]] = set()
        self._last: dict[str, float] = {}

    def note(self, user: str, expires_at: float) -> None:
        if (expires_at, user) in self._noted:
            return
        self._noted.add((expires_at, user))
        heapq.heappush(self._heap, (expires_at, user))
        self._last[user] = max(expires_at, self._last.get(user, 0.0))

    def over(self, user: str, now: float) -> bool:
        """Whether all that we know of have expired. False for a user who is not known here."""
        return self._last.get(user, now + 1) <= now

    def due(self, now: float) -> set[str]:
        """The users of whose credentials one has expired since the last call."""
        found: set[str] = set()
        while self._heap and (self._heap[0][0] <= now or len(self._heap) > self._limit):
            found.add(self._pop())
        for user in list(self._last) if len(self._last) > self._limit else ():
            if self._last[user] <= now:
                del self._last[user]
        return found

    def _pop(self) -> str:
        first = heapq.heappop(self._heap)
        self._noted.discard(first)
        return first[1]
