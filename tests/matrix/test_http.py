"""Every HTTP route and stream: each cell of docs/policy.toml, asked of the running service."""

import asyncio
import uuid
from collections.abc import Iterator
from itertools import product
from typing import Final, NamedTuple

import httpx
import pytest

from tests.matrix import rpc
from tests.matrix.cast import STRANGER
from tests.matrix.policy import KINDS, Http, mentions, read
from tests.matrix.scene import SEEN, Scene, filled, pairs, problem

AT_ONCE: Final = 128
"""What is to be applied takes 5 s: no notifier runs."""
SILENCE_S: Final = 0.3
PATIENCE_S: Final = 15.0
EVERYBODY: Final = "*"
CURSOR: Final = "1-0"
FEEDS: Final = ("/v1/events", "/api/sse")
NO_QUERY: Final = ("GET /api/version", "POST /api/sessions")
"""Anybody may ask these, but not with a query."""
COLUMNS: Final = (
    "subscriber",
    "subscriber_with_owner",
    "executor",
    "executor_with_owner",
    "admin",
    "admin_with_owner",
    "ticket",
    "ticket_for_another",
)


class Attempt(NamedTuple):
    """One request. `sees`: whose jobs the answer must show, and no other's."""

    label: str
    path: str
    headers: dict[str, str]
    body: str | None
    wanted: str
    sees: frozenset[str]


def attempts(row: Http, scene: Scene) -> Iterator[Attempt]:
    """All cells of the row, with everybody who stands for them."""
    kinds = KINDS if mentions(row, "{job}") else KINDS[:1]
    if row.nobody is not None:
        for kind in kinds:
            job = scene.job("alice", "bob", kind)
            for one in scene.cast.refused(scene.jobs["alice"]):
                if one.query and row.request in NO_QUERY:
                    continue
                label = f"nobody, {one.label}, {kind} job"
                headers = one.headers | {"Sec-Fetch-Site": "same-origin"}
                told = row.answer("nobody", kind) or ""
                yield _attempt(row, job, (label, one.query, headers, told, ""))
    for who, kind in product(COLUMNS, kinds):
        wanted = row.answer(who, kind)
        if wanted is None:
            continue
        for me, other in pairs(who, row):
            owner, job_id = scene.job(me, other, kind)
            query, shown = acting((row, who), (me, other, owner))
            for door, headers, more in credentials(who, me, job_id, (row, scene)):
                label = f"{who}, {me} by {door}, {kind} job, of {owner}"
                said = (label, f"{query}&{more}".strip("&"), headers, wanted, shown)
                yield _attempt(row, (owner, job_id), said)


def acting(cell: tuple[Http, str], names: tuple[str, str, str]) -> tuple[str, str]:
    """The query that says for whom one acts, and whose jobs are to be seen."""
    (row, who), (me, other, owner) = cell, names
    if "owner=*" in row.request:
        return "", EVERYBODY
    if not who.endswith("_with_owner"):
        return "", me
    # Where no job is asked for, all are: another's.
    for_whom = owner if mentions(row, "{job}") else other
    sees = for_whom if who != "executor_with_owner" else ""  # who reports on a job sees nothing
    return f"owner={for_whom}", sees


def credentials(
    who: str, me: str, job_id: str, at: tuple[Http, Scene]
) -> Iterator[tuple[str, dict[str, str], str]]:
    """Door, headers and query."""
    row, scene = at
    if who == "ticket":
        job = job_id if mentions(row, "{job}") else scene.jobs[me]
        yield "ticket", {}, f"ticket={scene.ticket(me, job)}"
    elif who == "ticket_for_another":
        yield "ticket", {}, f"ticket={scene.ticket(me, 'another-job-of-mine')}"
    else:
        for door in row.by:
            if door != "key":
                yield door, scene.by(door, me), ""
            elif me in scene.cast.keys:
                owner = scene.owner_of(job_id)
                query = filled(row.request.partition("?")[2], job=job_id, owner=owner)
                yield door, {}, scene.signature(me, query)


def _attempt(
    row: Http, job: tuple[str, str], said: tuple[str, str, dict[str, str], str, str]
) -> Attempt:
    (owner, job_id), (label, query, headers, wanted, shown) = job, said
    fields = {"job": job_id, "owner": owner, "n": uuid.uuid4().hex}
    path = filled(row.request.partition(" ")[2], **fields)
    if query:
        path += ("&" if "?" in path else "?") + query
    body = None if row.body is None else filled(row.body, **fields)
    if body is not None:
        headers = {"Content-Type": "application/json"} | headers
    words = ("/v1/jobs", "/v1/records", "/management-server/jobs")
    shows = any(word in path for word in words) or "GET /v1/events" in row.request
    shows = shows or "listPersistentIDStatus" in (row.body or "")
    sees = wanted in {"200", "202", "200 snapshot", "200 live", "SUCCESS"} and shows
    seen = frozenset({shown} if sees and shown else ())
    return Attempt(label, path, headers | row.headers, body, wanted, seen)


async def answer(client: httpx.AsyncClient, row: Http, one: Attempt) -> tuple[str, frozenset[str]]:
    """What is answered, and whose jobs are seen in it."""
    method = row.request.partition(" ")[0]
    request = client.build_request(method, one.path, headers=one.headers, content=one.body)
    response = await client.send(request, stream=True)
    try:
        if row.stream and response.status_code == 200:
            text = await stream(response, one.wanted, feed=one.path.startswith(FEEDS))
            return f"200 {opened(text, one.path)}", frozenset(SEEN.findall(text))
        body = (await response.aread()).decode()
    finally:
        await response.aclose()
    said = rpc.told(body) or f"{response.status_code}{problem(body)}"
    return said, frozenset(SEEN.findall(body))


async def stream(response: httpx.Response, wanted: str, *, feed: bool) -> str:
    """The opening of a stream, until nothing is to be expected any more."""
    text, last = "", "event: live" if feed else "event: snapshot"
    silent = wanted == "200 silent"
    try:
        async with asyncio.timeout(SILENCE_S if silent else PATIENCE_S):
            async for chunk in response.aiter_text():
                text += chunk
                if last in text and text.endswith("\n\n"):
                    break
    except TimeoutError:
        pass
    return text


def opened(text: str, path: str) -> str:
    if "event: snapshot" in text and "/v1/events" not in path:
        return "snapshot"
    if "event: live" in text:
        return "live" if SEEN.search(text) else "nothing"
    return "silent" if "event: stream" in text else f"? {text!r}"


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in read().http])
async def test_a_request_is_answered_as_the_table_says(scene: Scene, row: Http) -> None:
    wrong: list[str] = []
    limit = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=scene.url, timeout=30) as client:

        async def check(one: Attempt) -> None:
            async with limit:
                said, seen = await answer(client, row, one)
            sees = frozenset(scene.jobs) if EVERYBODY in one.sees else one.sees
            if (said, seen) != (one.wanted, sees):
                told = f"{said} seeing {sorted(seen)}, not {one.wanted} seeing {sorted(sees)}"
                wrong.append(f"{one.label}: {told}")

        tried = list(attempts(row, scene))
        await asyncio.gather(*map(check, tried))
    assert not wrong, "\n".join(wrong)
    assert len(tried) > 20


async def test_routes_of_later_are_not_served_yet(scene: Scene) -> None:
    """Else they are to be put into the table."""
    async with httpx.AsyncClient(base_url=scene.url, headers=scene.bearer("alice")) as client:
        for route in read().later:
            method, path = filled(route, job=scene.jobs["alice"], owner=STRANGER).split(" ")
            response = await client.request(method, path)
            assert response.status_code in {404, 405}, route
