"""Readers of event streams that write down every frame, and how each connection began and ended.

They resume by Last-Event-ID as a browser does, on the other replica each time, and leave now and
then of their own accord.
"""

import asyncio
from random import Random
from typing import Final
from urllib.parse import quote

import httpx
import msgspec
from msgspec import Struct

from jobcast.sse import EventStream, ServerSentEvent
from tests.chaos.record import ENDS, Connection, Frame, JobKey, Stream, told

CONNECT_S: Final = 4.0
RETRY_S: Final = 0.3
NOT_JOBS: Final = frozenset({"stream", "live", "expiring", "message"})


class Manner(Struct, frozen=True):
    """`quiet_s`: a stream that says nothing for so long is dead; `stays_s`: about how long a reader
    stays on one connection; `retry_max_s` bounds what the server may ask for."""

    quiet_s: float
    stays_s: float
    retry_max_s: float


class Doors(Struct, frozen=True):
    """The API replicas, and a client for all requests."""

    http: httpx.AsyncClient
    urls: list[str]
    tokens: dict[str, str]  # by owner

    def headers(self, owner: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[owner]}"}


class _Resume(Struct):
    resume: str


class StreamReader:
    """One reader; `record` is what it has written down."""

    def __init__(
        self, doors: Doors, owner: str, job_id: str | None, manner: Manner, seed: str
    ) -> None:
        self._doors = doors
        self._manner = manner
        self._chance = Random(seed)
        self._turn = self._chance.randrange(2)
        self._cursor: str | None = None
        self._path = "/v1/events" if job_id is None else f"/v1/jobs/{quote(job_id)}/events"
        self.record = Stream(owner, job_id)
        self.ended: set[JobKey] = set()
        self.opened = asyncio.Event()
        self.done = False

    async def run(self) -> None:
        """A job's: until its end has been told. The feed's: for ever."""
        while not self.done:
            parser = EventStream()
            connection = Connection(self._cursor)
            self.record.connections.append(connection)
            try:
                async with asyncio.timeout(self._manner.stays_s * self._chance.uniform(0.2, 1.8)):
                    await self._connect(connection, parser)
                    connection.ended_by = "server"
            except TimeoutError:
                connection.ended_by = "reader"
            except httpx.TransportError as error:
                connection.ended_by = type(error).__name__
            if parser.last_event_id is not None:
                self._cursor = parser.last_event_id
            if not self.done:
                wanted_s = RETRY_S if parser.retry_ms is None else parser.retry_ms / 1000
                wait_s = min(self._manner.retry_max_s, wanted_s)
                await asyncio.sleep(wait_s * self._chance.uniform(0.1, 1.0))

    async def _connect(self, connection: Connection, parser: EventStream) -> None:
        doors, manner = self._doors, self._manner
        self._turn += 1
        headers = doors.headers(self.record.owner)
        if self._cursor is not None:
            headers["Last-Event-ID"] = self._cursor
        url = doors.urls[self._turn % len(doors.urls)] + self._path
        timeout = httpx.Timeout(CONNECT_S, read=manner.quiet_s)
        async with doors.http.stream("GET", url, headers=headers, timeout=timeout) as response:
            connection.status = response.status_code
            if response.status_code == httpx.codes.NO_CONTENT:
                self.done = True
            if response.status_code != httpx.codes.OK:
                return
            async for chunk in response.aiter_raw():
                for event in parser.feed(chunk):
                    self._take(connection, event)

    def _take(self, connection: Connection, event: ServerSentEvent) -> None:
        if event.event == "stream":
            connection.answer = msgspec.json.decode(event.data, type=_Resume).resume
        if event.event == "live":
            self.opened.set()
        if event.event in NOT_JOBS:
            connection.frames.append(Frame(event.event, event.last_event_id, None))
            return
        one = told(event.event, event.data.encode())
        connection.frames.append(Frame(event.event, event.last_event_id, one))
        if one.word in ENDS or one.ended:
            self.ended.add(one.key)
            self.done = self.record.job_id is not None
