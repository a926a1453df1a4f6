"""Logon sessions of the HMC dialect: what logging on gives, valid on every replica without state.

A session is a pair of sealed values. The session id opens HTTP; with the session credential as its
password it is a login at RabbitMQ, for the user's topics alone. Both say `<user>!<nonce>`, and of
an issuer's user `!<roles>` as well; their key is, as that of the cookie (`api.session`), the hash
of the token that opened the session, or the service's own: a session ends with the token behind it.
Owns too which sessions have been logged off, which only the replica that was told knows, and when
those at RabbitMQ are to be looked at. Promises: what it remembers is bounded, and one user's
sessions never crowd out another's. Never: keeps a session that it has given away.
"""

import math
import secrets
from collections.abc import Collection
from typing import Final, NamedTuple

from api import seal
from api.identity import FOLLOWS, Credentials, Identity, sealed_by
from api.seal import Sealed
from api.secret import CannotTell, Secret

SESSION_S: Final = 12 * 3600
SESSION: Final = b"jobcast logon session 1"
CREDENTIAL: Final = b"jobcast logon credential 1"
MARK: Final = "!"  # in no name, no role and no nonce
NONCE_BYTES: Final = 12
NONCE_MAX: Final = 16
ENDED_MAX: Final = 1_000
STEP_S: Final = 2
"""Looks at RabbitMQ are so far apart at least, and the times for them so many at most."""
CACHE_S: Final = 6.0
"""After so long RabbitMQ has forgotten a login that was good (`auth_cache.cache_ttl`)."""


class Logon(NamedTuple):
    """What is handed out."""

    session_id: str
    credential: str


def logged_on(who: Identity, secret: Secret, now: float) -> Logon:
    """A new session, of at most SESSION_S and no longer than the credential. Raises CannotTell."""
    expires = int(min(now + SESSION_S, who.expires_at or float("inf")))
    parts, key = [who.user, secrets.token_urlsafe(NONCE_BYTES)], bytes.fromhex(who.token_sha256)
    if not key:
        parts, key = [*parts, "+".join(who.roles)], secret.value
    said = MARK.join(parts)
    return Logon(*(seal.seal(said, key, purpose, expires) for purpose in (SESSION, CREDENTIAL)))


def is_session_id(name: str) -> bool:
    """Whether it has the form of one, which no user's name has: that is shorter."""
    sealed = seal.opened(name, 0.0)
    return sealed is not None and MARK in sealed.payload


class Logons:
    """The sessions that come back to this process.

    Of a user ENDED_MAX sessions that were logged off are remembered one by one; beyond that, all
    their sessions that expire no later than these are taken for logged off.
    """

    def __init__(self, by: Credentials, limit: int = ENDED_MAX) -> None:
        self.by = by
        self._limit = limit
        self._ended: dict[str, dict[str | None, float]] = {}
        self._all_until: dict[str, float] = {}
        self._looks: set[float] = set()
        self._looked = 0.0

    def identity(self, session_id: str, now: float) -> Identity | None:
        """Who this session is, if it holds. Raises CannotTell."""
        return self._opened(session_id, SESSION, now)

    def listener(self, session_id: str, credential: str, now: float) -> Identity | None:
        """The same for who logs in at RabbitMQ with both. Raises CannotTell."""
        who = self._opened(session_id, SESSION, now)
        if who is None or who != self._opened(credential, CREDENTIAL, now):
            return None
        self._look(who.expires_at or now, now)
        return who

    def end(self, who: Identity, now: float) -> None:
        """Logs off the session that has this identity."""
        ended = self._ended.setdefault(who.user, {})
        ended[who.session] = who.expires_at or now
        if len(ended) > self._limit:
            left = {session: until for session, until in ended.items() if until > now}
            if len(left) > self._limit:
                self._all_until[who.user] = max(left.values())
                left = {}
            self._ended[who.user] = left
        if self._looks:  # else nobody has logged in at RabbitMQ by a session
            self._look(now, now)

    def due(self, now: float) -> bool:
        """Whether who is connected to RabbitMQ is to be looked at."""
        return now >= self._looked + STEP_S and any(at <= now for at in self._looks)

    def looked(self, now: float) -> None:
        """Notes that this was done, by who began at `now`."""
        self._looked = now
        self._looks = {at for at in self._looks if at > now}

    def void(self, connected: Collection[str], now: float) -> list[str]:
        """Those of the connected who are sessions and may hear no more; the others are looked at
        again when they expire. Who cannot be told is left, for a later look."""
        void = []
        for session_id in filter(is_session_id, connected):
            try:
                who = self.identity(session_id, now)
            except CannotTell:
                continue
            if who is None or not who.has(FOLLOWS):
                void.append(session_id)
            else:
                self._look(who.expires_at or now, now)
        return void

    def _look(self, at: float, now: float) -> None:
        """Notes a time, and one more for whom RabbitMQ's cache has let in until then."""
        first = math.ceil(min(at, now + SESSION_S) / STEP_S) * STEP_S
        self._looks |= {first, first + CACHE_S}

    def _opened(self, value: str, purpose: bytes, now: float) -> Identity | None:
        sealed = seal.opened(value, now)
        who = None if sealed is None else self._whose(sealed, purpose)
        return None if who is None or self._over(who) else who

    def _over(self, who: Identity) -> bool:
        over = (who.expires_at or 0.0) <= self._all_until.get(who.user, 0.0)
        return over or who.session in self._ended.get(who.user, {})

    def _whose(self, sealed: Sealed, purpose: bytes) -> Identity | None:
        by, expires = self.by, sealed.expires
        match sealed.payload.split(MARK):
            case [name, nonce] if len(nonce) <= NONCE_MAX:
                user = by.users.by_name(name)
                key = sealed_by(sealed, user, purpose)
                if user is None or key is None:
                    return None
                return Identity(name, user.roles, "session", key, expires, session=nonce)
            case [name, nonce, said] if by.issuer is not None:
                if not sealed.made_with(by.secret.value, purpose):
                    return None
                roles = tuple(role for role in said.split("+") if role)
                return Identity(name, roles, "session", "", expires, session=nonce)
            case _:
                return None
