"""Taking away, over AMQP and STOMP, what users no longer have.

RabbitMQ asks `api.authority` at login and again every few seconds at most, but neither for what it
delivers to a consumer nor on a busy channel. So here connections are closed, through the management
API: of a user who is removed, loses a token or a role, or whose JWT expires; they come back with
what is still good. Bindings that the policy no longer allows are removed, so that durable queues
receive nothing more; what is in them stays until the broker's policy for unused queues takes it.
Logon sessions (`api.logon`) are closed when they expire, are logged off here, or lose what has
opened them.
Promises: within REVOCATION_S while RabbitMQ answers, and tried until done; again after RabbitMQ's
cache has forgotten the login; several replicas doing the same is harmless. Never: touches accounts
that RabbitMQ keeps itself, or stops serving.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import unquote

import msgspec

from api.deadlines import Deadlines
from api.logon import Logons, is_session_id
from api.management import Bound, Management, ManagementAway
from api.policy import ROLES, may_route, may_use
from api.settings import Settings
from broker.link import delay_after
from broker.notices import TOPICS
from jobcast.names import COMMANDS, EVENTS, LIFECYCLE, QUERY
from notifier.users import GUEST, Users

REVOCATION_S: Final = 5.0
LOOK_S: Final = 0.5
CACHE_S: Final = 5.0
"""For so long RabbitMQ keeps a login that was good (`auth_cache.cache_ttl`)."""
AGAIN_S: Final = CACHE_S + 1.0
SWEEP_S: Final = 300.0
REASON: Final = "the credential no longer opens this"
OURS: Final = frozenset({EVENTS, COMMANDS, LIFECYCLE, QUERY})
SWEPT: Final = (EVENTS, COMMANDS, TOPICS)

log = logging.getLogger(__name__)


class Held(msgspec.Struct, frozen=True):
    """What a user of the file has."""

    tokens: frozenset[str]
    roles: frozenset[str]

    def loses(self, now: "Held | None") -> bool:
        return now is None or bool(self.tokens - now.tokens or self.roles - now.roles)

    @property
    def mark(self) -> str:
        """Changes with either; says nothing of them."""
        text = "\n".join([*sorted(self.tokens), *sorted(self.roles)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Revocation:
    """The decisions, and what is still to be done. `issued`: there are users in no file."""

    def __init__(self, users: Users, deadlines: Deadlines, *, issued: bool) -> None:
        self._users = users
        self._deadlines = deadlines
        self._issued = issued
        self._generation = users.generation
        self._held = held(users)
        self._removed: set[str] = set()
        self._closing: dict[str, set[float]] = {}
        self._beginning = True
        self.sweep_at = float("-inf")

    def look(self, now: float) -> None:
        """Finds what has changed. `now` in seconds since 1970."""
        for user in self._deadlines.due(now):
            self.revoke(user, now)
        self._users.refresh()
        if self._users.generation == self._generation:
            return
        self._generation = self._users.generation
        before, self._held = self._held, held(self._users)
        self._removed = (self._removed | before.keys()) - self._held.keys()
        for user, had in before.items():
            if had.loses(self._held.get(user)):
                self.revoke(user, now)
        self.sweep_at = now

    def revoke(self, user: str, now: float) -> None:
        """Again later: until then RabbitMQ may have let the old credential in once more."""
        self._closing.setdefault(user, set()).update({now, now + AGAIN_S})

    def due(self, now: float) -> list[str]:
        return [user for user, times in self._closing.items() if min(times) <= now]

    def done(self, user: str, now: float) -> None:
        left = {at for at in self._closing.pop(user, set()) if at > now}
        if left:
            self._closing[user] = left

    def swept(self, now: float) -> None:
        self._beginning = False
        self.sweep_at = now + (AGAIN_S if self._closing else SWEEP_S)

    def begin(
        self, connected: Collection[str], own: Collection[str], before: Mapping[str, str]
    ) -> None:
        """At our start: who is connected, whom RabbitMQ keeps itself, and what was remembered.

        Who is connected and no user of the file comes back with their JWT, or not at all.
        """
        now, marks = time.time(), self.marks
        connected = [user for user in connected if not is_session_id(user)]  # the sweep's business
        self._removed |= before.keys() - marks.keys()
        changed = {user for user, mark in before.items() if marks.get(user) != mark}
        for user in (changed | (set(connected) - marks.keys())) - set(own):
            self.revoke(user, now)

    @property
    def marks(self) -> dict[str, str]:
        return {user: has.mark for user, has in self._held.items()}

    def is_void(self, binding: Bound) -> bool:
        """Whether nobody could make the binding today: the policy says what the queue's owner may.

        Queues named in other ways are an admin's. Our exchanges feed one another in no way: who
        may read one and write to the other could else pour the one into the other. `amq.topic` is
        not ours alone: an operator may have it feed another.
        """
        if binding.destination_type != "queue":
            return binding.source != TOPICS and binding.destination in OURS
        first, _, rest = binding.destination.partition(".")
        if first not in {"sub", "cmd"}:
            return False
        owner = unquote(rest.partition(".")[0])
        roles = self._roles(owner)
        return not (
            may_use(owner, roles, "queue", binding.destination, "write")
            and may_use(owner, roles, "exchange", binding.source, "read")
            and may_route(owner, roles, binding.source, "read", binding.routing_key)
        )

    def _roles(self, owner: str) -> Collection[str]:
        """Somebody whom we have never seen may be an issuer's user, or one of a newer file that has
        reached another replica first. Only at our start the file is taken for complete."""
        has = self._held.get(owner)
        if has is not None:
            return has.roles
        known = owner in self._removed or (self._beginning and not self._issued)
        return () if known else ROLES


def held(users: Users) -> Mapping[str, Held]:
    return {
        user.name: Held(
            frozenset(hexes.lower() for hexes in user.token_sha256), frozenset(user.roles)
        )
        for user in users.all()
    }


@asynccontextmanager
async def revoking(
    settings: Settings, logons: Logons, deadlines: Deadlines, management: Management | None
) -> AsyncIterator[None]:
    """Takes away for the block."""
    if management is None:
        if settings.authority_port is not None:
            log.warning(
                "JOBCAST_MANAGEMENT_URL is not set: whoever is connected to RabbitMQ when they are"
                " removed, or their token is, stays connected; only new questions are refused"
            )
        yield
        return
    own = GUEST | {settings.service_user}
    revocation = Revocation(logons.by.users, deadlines, issued=settings.jwt_issuer is not None)
    task = asyncio.create_task(Revoker(revocation, logons, management, own).keep())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Revoker:
    """Does what is decided. `own`: accounts that are never touched."""

    def __init__(
        self,
        revocation: Revocation,
        logons: Logons,
        management: Management,
        own: Collection[str],
    ) -> None:
        self._revocation = revocation
        self._logons = logons
        self._management = management
        self._own = own
        self._remembered: Mapping[str, str] | None = None

    async def keep(self) -> None:
        """For ever; what fails is tried again."""
        failures = 0
        while True:
            try:
                self._revocation.look(time.time())
                await self.act()
                if failures:
                    log.info("RabbitMQ's management answers again")
                failures = 0
            except ManagementAway as error:
                failures += 1
                level = logging.WARNING if failures == 1 else logging.DEBUG
                log.log(level, "RabbitMQ's management: %s; what is to be revoked waits", error)
            except Exception:
                failures += 1
                log.exception("revocation failed, and is tried again")
            await asyncio.sleep(LOOK_S + (delay_after(failures) if failures else 0))

    async def act(self) -> None:
        """What is due. Raises ManagementAway; what was done is not done again."""
        if self._remembered is None:
            await self._begin()
        for user in self._revocation.due(time.time()):
            now = time.time()
            await self._management.close(user, REASON)
            self._revocation.done(user, now)
            log.info("closed the connections of %s at RabbitMQ: %s", user, REASON)
        if self._logons.due(time.time()):
            await self._close_sessions()
        if time.time() >= self._revocation.sweep_at:
            await self._sweep()
        marks = self._revocation.marks
        if marks != self._remembered:
            await self._management.remember(marks)
            self._remembered = marks

    async def _begin(self) -> None:
        """What has changed while nobody was here to see it."""
        connected = {one.user for one in await self._management.connections()}
        own = set(self._own) | await self._management.accounts()
        before = await self._management.recall()
        self._revocation.begin(connected, own, before)
        self._remembered = before

    async def _close_sessions(self) -> None:
        """What of logon sessions is connected and holds no more, whoever has let it in."""
        now = time.time()
        connected = {one.user for one in await self._management.connections()}
        void = self._logons.void(connected, now)
        for session_id in void:
            await self._management.close(session_id, REASON)
        self._logons.looked(now)
        if void:
            log.info("closed the connections of %d sessions at RabbitMQ: %s", len(void), REASON)

    async def _sweep(self) -> None:
        await self._close_sessions()
        for exchange in SWEPT:
            for binding in await self._management.bindings(exchange):
                if self._revocation.is_void(binding):
                    await self._management.unbind(binding)
                    log.info("unbound %s from %s", binding.destination, exchange)
        self._revocation.swept(time.time())
