"""What a client uses to read and control jobs and to learn of their end, over HTTP and AMQP.

    async with Client("http://…", token) as client:
        job = await client.wait(job_id)

Owns an HTTP connection pool, and a connection for each subscription. Promises that `wait`, the
watchers and subscriptions go on across disconnects, restarts and overload, as fast as the server
allows and no faster. Never shows the token.
"""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Final, Self, Unpack
from urllib.parse import urlsplit

import httpx
import msgspec

from jobcast.backoff import delay_after, jitter
from jobcast.bearer import Bearer
from jobcast.control import Control, job_of, path_of, whose
from jobcast.events import Event
from jobcast.filters import Filters, Some, params
from jobcast.job import Job
from jobcast.problems import (
    JobNotFound,
    Rejected,
    Unavailable,
    error_of,
    retry_after_s,
    unreachable,
)
from jobcast.sse import ServerSentEvent
from jobcast.subscription import Subscription
from jobcast.subscriptions import Login, Subscriptions
from jobcast.watch import CONNECT_S, Change, Patience, Source, follow
from jobcast.wire import BATCH, decode_job, encode_batch

log = logging.getLogger(__name__)

ANSWER_S: Final = 20.0
"""For an answer that need not wait for anything, and on top of a long poll."""
EARLY: Final = 0.5
"""A long poll answered within this part of its time has not waited: something is wrong there."""
NOT_JOBS: Final = frozenset({"stream", "live", "expiring"})


class Page(msgspec.Struct):
    jobs: list[Job]
    next: str | None = None


class Client(Control):
    """`async with Client(url, token)`; every method may be used by many tasks at once.

    A `token` that expires is given as a function that answers at once with one that is good now.
    Raises ValueError for a URL that is not HTTP. A certificate authority of one's own is taken
    from `SSL_CERT_FILE`. Methods raise the exceptions of `jobcast.problems`; `wait` and the
    watchers go on after `Unavailable` instead.

    With an `amqp_url` there are durable subscriptions; without a password in it the token is one.
    `client_id` names this client in their queues and must not be guessable; by default it is made
    once and kept in `$XDG_STATE_HOME/jobcast/client-id`, for this user on this machine.
    """

    def __init__(
        self,
        url: str,
        token: str | Callable[[], str] | None = None,
        *,
        patience: Patience | None = None,
        amqp_url: str | None = None,
        client_id: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("an http:// or https:// URL is wanted")
        self._patience = patience or Patience()
        self._subscriptions: Subscriptions | None = None
        if amqp_url is not None:
            login = Login(amqp_url, token)
            self._subscriptions = Subscriptions(login, client_id, self._patience.refused_s)
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"}
            if token and isinstance(token, str)
            else {},
            auth=Bearer(token) if callable(token) else None,
            timeout=httpx.Timeout(CONNECT_S, read=ANSWER_S),
            limits=httpx.Limits(max_connections=None),
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._subscriptions is not None:
                await self._subscriptions.close(handled=kind is None)
        finally:
            await self._http.__aexit__(kind, error, trace)

    async def get(self, job_id: str) -> Job:
        return job_of(await self._request("GET", path_of(job_id)))

    async def list(
        self, *, page_size: int = 50, **filters: Unpack[Filters]
    ) -> AsyncGenerator[Job, None]:
        """Newest first, page by page as they are read; `page_size` 1 to 500."""
        page: str | None = ""
        while page is not None:
            query = [
                *params(filters),
                ("limit", str(page_size)),
                *([("page", page)] if page else []),
            ]
            answer = _decode(await self._request("GET", "/v1/jobs", params=query))
            for job in answer.jobs:
                yield job
            page = answer.next

    async def report(self, *events: Event) -> int:
        """Reports events over HTTP, at most 1,000; answers how many. Needs the role executor."""
        headers = {"Content-Type": BATCH}
        await self._request("POST", "/v1/events", content=encode_batch(events), headers=headers)
        return len(events)

    async def wait(
        self, job_id: str, timeout_s: float | None = None, *, owner: str | None = None
    ) -> Job:
        """The job once it has ended, by long polling; an admin may name its `owner`.

        Waits for an unknown job too, as long as the server does (up to a minute), then raises
        JobNotFound. Raises TimeoutError after `timeout_s` seconds.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        deadline = math.inf if timeout_s is None else began + timeout_s
        failures, known = 0, False
        while True:
            asked = clock()
            hold_s = max(0.0, min(self._patience.poll_s, deadline - asked))
            try:
                response = await self._poll(job_id, hold_s, owner)
            except JobNotFound:
                if known or clock() - began >= hold_s * EARLY:
                    raise
                pause_s = jitter(1.0)
            except Unavailable as error:
                level = logging.DEBUG if failures else logging.WARNING  # once per outage
                log.log(level, "still waiting: %s", error)
                failures += 1
                pause_s = (error.retry_after_s or 0.0) + delay_after(failures)
            else:
                job = job_of(response)
                if job.ended:
                    return job
                failures, known = 0, True
                early = clock() - asked < hold_s * EARLY
                pause_s = jitter(retry_after_s(response) or 1.0) if early else 0.0
            await asyncio.sleep(max(0.0, min(pause_s, deadline - clock())))
            if clock() >= deadline:
                raise TimeoutError(f"job {job_id} has not ended within {timeout_s:g} s")

    async def watch(
        self, job_id: str, *, cursor: str | None = None
    ) -> AsyncGenerator[Change, None]:
        """The job as it stands, then its changes until it has ended or been deleted.

        With the cursor of an earlier Change: what came after it. Raises JobNotFound for a job that
        stays unknown for about a minute.
        """
        clock = asyncio.get_running_loop().time
        began, seen = clock(), 0
        path = f"{path_of(job_id)}/events"
        async with aclosing(self._follow(path, [], cursor)) as events:
            async for event in events:
                if event is None:
                    if not (seen or cursor) and clock() - began >= self._patience.unknown_s:
                        raise JobNotFound(f"no event of job {job_id} has come")
                elif (change := _change(event)) and _is_news(change, seen):
                    seen = change.job.version
                    yield change
                    if change.job.ended or change.event == "deleted":
                        return

    async def watch_all(
        self, *, cursor: str | None = None, **filters: Unpack[Filters]
    ) -> AsyncGenerator[Change, None]:
        """The owner's jobs that have not ended, then all changes of the owner's jobs, for ever.

        With the cursor of an earlier Change: what came after it. When the server no longer knows
        the cursor, the jobs come again as snapshots: a `version` that is not newer is no news.
        """
        async with aclosing(self._follow("/v1/events", params(filters), cursor)) as events:
            async for event in events:
                if event is not None and (change := _change(event)) is not None:
                    yield change

    def subscribe(
        self,
        name: str,
        *,
        event: Some | None = None,
        operation: Some | None = None,
        job: Some | None = None,
        owner: Some | None = None,
    ) -> Subscription:
        """A durable subscription over AMQP: `async for notification in client.subscribe("ends")`.

        Its queue keeps what comes while nobody listens, and stays until `unsubscribe`. A filter may
        have several values. A notification is acknowledged when the next one is asked for; the
        last one when the block of `async with`, of the client or of the subscription, is left
        normally. What was not acknowledged comes again. What still comes by the filters of an
        earlier call with this name is left out.

        Raises ValueError (no `amqp_url`; a name or filter that is not allowed; more than 100
        combinations) and BadSetting (no place for the client id). Iterating goes on for ever; it
        raises Forbidden when RabbitMQ has refused for `patience.refused_s`.
        """
        return self._over_amqp.open(name, owner, operation, event, job)

    async def unsubscribe(self, name: str) -> None:
        """Deletes the subscription's queue and what is in it. Raises Forbidden, Unavailable."""
        await self._over_amqp.remove(name)

    @property
    def _over_amqp(self) -> Subscriptions:
        if self._subscriptions is None:
            raise ValueError("amqp_url: one is wanted for subscriptions")
        return self._subscriptions

    def _follow(
        self, path: str, query: Sequence[tuple[str, str]], cursor: str | None
    ) -> AsyncGenerator[ServerSentEvent | None, None]:
        return follow(Source(self._http, path, tuple(query), self._patience), cursor)

    async def _poll(self, job_id: str, hold_s: float, owner: str | None) -> httpx.Response:
        timeout = httpx.Timeout(CONNECT_S, read=hold_s + ANSWER_S)
        query = {"wait": f"{hold_s:.3f}"} | whose(owner)
        return await self._request("GET", path_of(job_id), params=query, timeout=timeout)

    async def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise unreachable(error) from error
        if not response.is_success:
            raise error_of(response)
        return response


def _change(event: ServerSentEvent) -> Change | None:
    """None for what is not about a job."""
    if event.event in NOT_JOBS:
        return None
    try:
        return Change(event.event, decode_job(event.data.encode()), event.last_event_id)
    except msgspec.DecodeError as error:
        raise Rejected(f"the stream's event {event.event!r} is no job: {error}") from error


def _is_news(change: Change, seen: int) -> bool:
    """A snapshot repeats what was seen when a cursor was forgotten; changes come once."""
    return change.event != "snapshot" or change.job.version > seen


def _decode(response: httpx.Response) -> Page:
    try:
        return msgspec.json.decode(response.content, type=Page)
    except msgspec.DecodeError as error:
        raise Rejected(
            f"the answer is not a list of jobs: is this a jobcast API? ({error})"
        ) from error
