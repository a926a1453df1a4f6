"""Connecting to Redis, and what its failures are called here.

Promises: every call has a time-out, and whatever redis-py raises comes out as `StoreUnavailable`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from jobcast.cancellation import heeded, is_to_end
from jobcast.errors import BadSetting, JobcastError

CONNECT_TIMEOUT_S: Final = 3.0
ANSWER_TIMEOUT_S: Final = 5.0
SCHEMES: Final = ("redis", "rediss")
CLOSED: Final = "the handler is closed"


class StoreUnavailable(JobcastError):
    """Redis cannot be reached, does not answer in time, or refuses to work. Try again later."""


class StoreRefused(StoreUnavailable):
    """Redis works and cannot do this: what stands under a key is not what should be there."""


class UnsafePolicy(StoreUnavailable):
    """Redis may evict keys: `maxmemory-policy` is not `noeviction`."""


def connect(url: str, *, name: str = "jobcast", connections_max: int = 50, **options: Any) -> Redis:
    """A client for the URL; it connects when first used. `name` is what CLIENT LIST shows.

    Never retries by itself: after an unknown outcome the service must look before it writes again.
    """
    if url.partition("://")[0] not in SCHEMES:
        raise BadSetting(f"JOBCAST_REDIS_URL: {' or '.join(SCHEMES)} is wanted")
    settings: dict[str, Any] = {
        "client_name": name,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": ANSWER_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 0,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": connections_max,
    }
    pool = _Pool.from_url(url, timeout=ANSWER_TIMEOUT_S, **(settings | options))
    return Redis.from_pool(pool)


class _Pool(BlockingConnectionPool):
    """Blocking: a burst of readers waits its turn for a connection instead of failing.

    When one connection has broken in use, the idle ones are given up too: on a link that is dead
    without a word each of them would cost another reader the whole time-out.
    """

    async def release(self, connection: AbstractConnection) -> None:
        # One whose user was cancelled (a client that left) says nothing about the others.
        broken = not connection.is_connected and not is_to_end()
        await super().release(connection)
        if broken:
            for idle in tuple(self._available_connections):
                # Without waiting, so that nobody takes it meanwhile.
                await idle.disconnect(nowait=True)


def database(redis: Redis) -> int:
    """The number of the database that the client speaks to."""
    return int(redis.connection_pool.connection_kwargs.get("db") or 0)


@contextmanager
def translated() -> Iterator[None]:
    """Everything that Redis can fail with becomes `StoreUnavailable`."""
    try:
        with heeded():
            yield
    except (RedisError, OSError, TimeoutError) as error:
        raise failure(error) from error
    except RuntimeError as error:
        # What uvloop raises for a write to a connection that has just been reset.
        if CLOSED not in str(error):
            raise
        raise StoreUnavailable(f"Redis: {error}"[:300]) from error


def failure(error: Exception) -> StoreUnavailable:
    """What an exception of redis-py is called here."""
    kind = StoreRefused if _refused(error) else StoreUnavailable
    return kind(f"Redis: {type(error).__name__} {error}"[:300])


def _refused(error: Exception) -> bool:
    """An error of this request alone. All others begin with a code of Redis that tells of its
    state (MISCONF, BUSY, NOREPLICAS) or have a class of their own."""
    if type(error) is not ResponseError:
        return False
    said = str(error).rpartition("caused error: ")[2]  # a pipeline puts it after its own words,
    code = said.lstrip("('\"").partition(" ")[0]  # as the repr of a tuple
    return code == "WRONGTYPE" or not code.isupper()
