"""The service's own key, for what a user of an issuer is handed: sessions and tickets.

Owns one key in Redis, made by the first replica that misses it and the same for all. Promises:
once read it stays in force for the life of the process, also while Redis is away, and a Redis that
has lost it gets it back from any replica. Before it was ever read `value` raises `CannotTell`:
nobody is refused as a forger then, but asked to come again.
"""

import asyncio
import logging
import secrets
from typing import Final

from redis.asyncio import Redis

from jobcast.errors import JobcastError
from notifier.connection import StoreUnavailable, translated
from notifier.keys import PREFIX

SECRET: Final = f"{PREFIX}:secret"
BYTES: Final = 32
AGAIN_S: Final = 30.0
FIRST_S: Final = 1.0

log = logging.getLogger(__name__)


class CannotTell(JobcastError):
    """Whether the credential is good cannot be known now; later it can."""


class Secret:
    """The key, kept the same as everybody's."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._value: bytes | None = None

    @property
    def value(self) -> bytes:
        """Raises CannotTell."""
        if self._value is None:
            raise CannotTell("redis is away, and the service's key was not read before")
        return self._value

    async def agree(self) -> None:
        """Takes the key that Redis holds; gives it ours, or a new one, if it holds none. Raises
        StoreUnavailable."""
        own = self._value or secrets.token_bytes(BYTES)
        with translated():
            await self._redis.set(SECRET, own, nx=True)
            found = await self._redis.get(SECRET)
        if isinstance(found, bytes) and len(found) == BYTES:
            self._value = found

    async def keep(self) -> None:
        """Agrees now and then, for ever."""
        while True:
            try:
                await self.agree()
            except StoreUnavailable as error:
                log.debug("the service's key was not read: %s", error)
            await asyncio.sleep(FIRST_S if self._value is None else AGAIN_S)
