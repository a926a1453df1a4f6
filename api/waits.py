"""Requests that wait: how many a user may have, and the end of a long poll with its credential.

Promises: a poll beyond the limit is answered 429 before it has cost anything; one whose credential
is revoked ends at once, and none outlives its credential's expiry.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from starlette.types import Receive

from api.identity import Identity
from api.presence import Cut, Presence
from api.problems import Problem, unauthorized
from api.tenure import Tenure

RETRY_S: Final = 5


class Poll:
    """One long poll, as `Tenure` sees it."""

    __slots__ = ("_presence", "identity", "warned")

    def __init__(self, identity: Identity, presence: Presence) -> None:
        self.identity = identity
        self.warned = True  # it is over soon in any case
        self._presence = presence

    def warn(self, left_s: int) -> None:
        """Says nothing."""

    def end(self, why: str) -> None:
        self._presence.cut()


class Waits:
    """All long polls of this process."""

    def __init__(self, tenure: Tenure, per_user: int) -> None:
        self._tenure = tenure
        self._per_user = per_user
        self._users: Counter[str] = Counter()

    @contextmanager
    def counted(self, user: str) -> Iterator[None]:
        """For the block. Raises Problem at the user's limit."""
        if self._users[user] >= self._per_user:
            raise Problem("too-many-waits", headers={"Retry-After": str(RETRY_S)})
        self._users[user] += 1
        try:
            yield
        finally:
            self._users[user] -= 1
            if not self._users[user]:
                del self._users[user]

    @asynccontextmanager
    async def entered(
        self, identity: Identity, receive: Receive, wait_s: float
    ) -> AsyncIterator[float]:
        """For the block, with the seconds for which it may wait.

        Raises Problem at the user's limit, and when the credential is revoked; ClientGone.
        """
        with self.counted(identity.user):
            presence = Presence(receive)
            poll = Poll(identity, presence)
            self._tenure.enter(poll)
            try:
                async with presence:
                    yield min(wait_s, left_s(identity, time.time()))
            except Cut:
                raise unauthorized() from None
            finally:
                self._tenure.leave(poll)


def left_s(identity: Identity, now: float) -> float:
    """How long the credential holds. `now` in seconds since 1970."""
    return float("inf") if identity.expires_at is None else max(0.0, identity.expires_at - now)
