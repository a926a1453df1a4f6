"""What we ask of RabbitMQ's management API: who is connected, what is bound, and to what queue.

Owns the form of those requests; the least of it, so that the broker need not collect statistics.
Promises: an answer or `ManagementAway` within REQUEST_S; a bound on what is read. Never: follows a
redirect, or logs the URL, which may hold a password.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote, urlsplit

import httpx
import msgspec

from api.settings import Settings
from jobcast.errors import JobcastError

REQUEST_S: Final = 5.0
ANSWER_MAX: Final = 64 * 1024 * 1024
MEMORY: Final = "jobcast-users"

T = TypeVar("T")

log = logging.getLogger(__name__)


class ManagementAway(JobcastError):
    """No usable answer; whether something was done is not known."""


class Connection(msgspec.Struct, frozen=True):
    """Somebody connected."""

    user: str
    vhost: str


class Bound(msgspec.Struct, frozen=True):
    """A binding; `properties_key` names it among those of its two ends."""

    source: str
    destination: str
    destination_type: str
    routing_key: str
    properties_key: str


class _Queue(msgspec.Struct, frozen=True):
    durable: bool


class _Parameter(msgspec.Struct, frozen=True):
    value: dict[str, str]


class _Named(msgspec.Struct, frozen=True):
    name: str


class Management:
    """Requests for one vhost; see `opened_management`."""

    def __init__(self, http: httpx.AsyncClient, vhost: str) -> None:
        self._http = http
        self._vhost = vhost

    async def connections(self) -> list[Connection]:
        """Of all protocols, in this vhost."""
        # From the broker's own list: the other one is empty without statistics, and late with them.
        body = await self._ask("GET", "connections?disable_stats=true")
        found = _read(body, list[dict[str, Any]])
        usable = [one for one in found if isinstance(one.get("user"), str)]
        try:
            connections = msgspec.convert(usable, list[Connection])
        except msgspec.ValidationError as error:
            raise ManagementAway(f"an answer that is not understood: {error}") from None
        return [one for one in connections if one.vhost == self._vhost]

    async def accounts(self) -> set[str]:
        """The users whom RabbitMQ keeps itself."""
        return {one.name for one in _read(await self._ask("GET", "users"), list[_Named])}

    async def close(self, user: str, reason: str) -> None:
        """Closes all connections of a user; none is fine."""
        path = f"connections/username/{quote(user, safe='')}"
        await self._ask("DELETE", path, headers={"X-Reason": reason})

    async def is_transient(self, queue: str) -> bool:
        """Whether there is such a queue, and it is not durable. False when in doubt."""
        path = f"queues/{self._quoted}/{quote(queue, safe='')}?disable_stats=true"
        try:
            body = await self._ask("GET", path)
            return bool(body) and not _read(body, _Queue).durable
        except ManagementAway as error:
            log.warning("RabbitMQ's management: %s; a STOMP subscription is refused", error)
            return False

    async def recall(self) -> dict[str, str]:
        """What was remembered last, by any replica; empty if nothing was."""
        body = await self._ask("GET", f"global-parameters/{MEMORY}")
        return _read(body, _Parameter).value if body else {}

    async def remember(self, marks: Mapping[str, str]) -> None:
        """Kept by RabbitMQ, as long as the connections that it is about."""
        await self._ask("PUT", f"global-parameters/{MEMORY}", json={"value": marks})

    async def bindings(self, exchange: str) -> list[Bound]:
        """All that the exchange feeds."""
        path = f"exchanges/{self._quoted}/{quote(exchange, safe='')}/bindings/source"
        return _read(await self._ask("GET", path) or b"[]", list[Bound])

    async def unbind(self, binding: Bound) -> None:
        """One that is gone is fine."""
        kind = "q" if binding.destination_type == "queue" else "e"
        ends = (quote(name, safe="") for name in (binding.source, binding.destination))
        source, destination = ends
        # RabbitMQ has percent-encoded the key already, and decodes the path once.
        key = quote(binding.properties_key, safe="")
        await self._ask("DELETE", f"bindings/{self._quoted}/e/{source}/{kind}/{destination}/{key}")

    @property
    def _quoted(self) -> str:
        return quote(self._vhost, safe="")

    async def _ask(self, method: str, path: str, **more: Any) -> bytes:
        """The body; empty for 404. Raises ManagementAway."""
        body = bytearray()
        try:
            async with self._http.stream(method, path, **more) as response:
                if response.status_code == httpx.codes.NOT_FOUND:
                    return b""
                response.raise_for_status()
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > ANSWER_MAX:
                        raise ManagementAway(f"more than {ANSWER_MAX} bytes")
        except httpx.HTTPStatusError as error:
            raise ManagementAway(f"answers {error.response.status_code}") from None
        except httpx.HTTPError as error:
            raise ManagementAway(f"no answer ({type(error).__name__})") from None
        return bytes(body)


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise ManagementAway(f"an answer that is not understood: {error}") from None


@asynccontextmanager
async def opened_management(settings: Settings, vhost: str) -> AsyncIterator[Management | None]:
    """For the block; None without JOBCAST_MANAGEMENT_URL. The login is the URL's own, else that of
    the AMQP URL."""
    if settings.management_url is None:
        yield None
        return
    parts, amqp = urlsplit(settings.management_url), urlsplit(settings.amqp_url)
    login = parts if parts.username else amqp
    auth = httpx.BasicAuth(unquote(login.username or "guest"), unquote(login.password or "guest"))
    host = parts.netloc.rpartition("@")[2]
    base = f"{parts.scheme}://{host}{parts.path.rstrip('/')}/api/"
    async with httpx.AsyncClient(base_url=base, auth=auth, timeout=REQUEST_S) as http:
        yield Management(http, vhost)
