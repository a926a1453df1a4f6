"""What is open, as long as the credential behind it holds: streams and long polls.

Owns telling that a credential is about to expire, and ending what hangs on one that has expired,
was rotated out, or has lost a role. Promises: within TENURE_S of the moment this process can know.
One tick for all: it reads the users file only when that has changed, and looks at nothing but what
expires otherwise.
"""

import asyncio
import logging
import math
import time
from typing import Final, Protocol

from api import audit
from api.identity import Identity, holds
from notifier.users import Users

TENURE_S: Final = 1.0
WARNING_S: Final = 30.0

log = logging.getLogger(__name__)


class Held(Protocol):
    """Something open. `warned`: it need not be told of its expiry (again)."""

    identity: Identity
    warned: bool

    def warn(self, left_s: int) -> None: ...
    def end(self, why: str) -> None: ...


class Tenure:
    """All that is open in this process.

    From `authenticate` to `enter` nothing may be awaited, or a revocation could fall between.
    """

    def __init__(self, users: Users) -> None:
        self._users = users
        self._generation = users.generation
        self._open: set[Held] = set()
        self._expiring: set[Held] = set()

    def enter(self, held: Held) -> None:
        self._open.add(held)
        if held.identity.expires_at is not None:
            self._expiring.add(held)

    def leave(self, held: Held) -> None:
        self._open.discard(held)
        self._expiring.discard(held)

    async def keep(self) -> None:
        """Checks, for ever."""
        while True:
            await asyncio.sleep(TENURE_S)
            self.check(time.time())
            audit.flush()

    def log_off(self, who: Identity) -> None:
        """Ends what hangs on a logon session."""
        for held in list(self._open):
            if held.identity.session == who.session and held.identity.user == who.user:
                held.end("revoked")

    def check(self, now: float) -> None:
        """`now` in seconds since 1970."""
        self._users.refresh()
        if self._users.generation != self._generation:
            self._generation = self._users.generation
            self._revoke(now)
        for held in list(self._expiring):
            left_s = (held.identity.expires_at or now) - now
            if left_s <= 0:
                held.end("expired")
            elif left_s <= WARNING_S and not held.warned:
                held.warn(math.floor(left_s))

    def _revoke(self, now: float) -> None:
        answers: dict[tuple[str, str, tuple[str, ...], str | None], bool] = {}
        ended = 0
        for held in list(self._open):
            who = held.identity
            mark = (who.user, who.token_sha256, tuple(who.roles), who.owner)
            if mark not in answers:
                answers[mark] = holds(who, self._users, now)
            if not answers[mark]:
                held.end("revoked")
                ended += 1
        if ended:
            log.info("%d streams and long polls ended: their credential was revoked", ended)
