"""The Client against a server that cuts, stalls, refuses and repeats."""

import asyncio
import time

import pytest

from jobcast.client import Client
from jobcast.events import Progressed
from jobcast.job import Status
from jobcast.problems import (
    Conflict,
    Forbidden,
    JobGone,
    JobNotFound,
    Rejected,
    ServiceError,
    TooManyRecords,
    Unauthorized,
    Unavailable,
)
from jobcast.watch import Change, Patience
from jobcast.wire import BATCH, decode
from tests.eventually import eventually
from tests.scripted_api import (
    Answer,
    event,
    job,
    late,
    no_content,
    opening,
    problem,
    reply,
    scripted_api,
    stream,
)

ENDED = job(3, Status.SUCCEEDED, percent=100)
QUICK = "retry: 10"


async def watched(client: Client, cursor: str | None = None) -> list[Change]:
    return [change async for change in client.watch("j1", cursor=cursor)]


async def test_a_job_is_read_with_the_token() -> None:
    async with scripted_api(reply(200, ENDED)) as api, Client(api.url, "secret") as client:
        assert await client.get("j1") == ENDED
        assert api.requests[0].headers["authorization"] == "Bearer secret"
        assert "secret" not in repr(vars(client))


async def test_a_job_id_is_one_part_of_the_path() -> None:
    async with scripted_api(reply(200, ENDED)) as api, Client(api.url) as client:
        await client.get("a/b?c")
        assert api.requests[0].path == "/v1/jobs/a%2Fb%3Fc"


async def test_a_control_call_says_whose_job_it_is_about() -> None:
    async with scripted_api(reply(202, job(2))) as api, Client(api.url) as client:
        assert await client.comment("a/b", "so", owner="bob") == job(2)
        request = api.requests[0]
        assert (request.method, request.path) == ("PATCH", "/v1/jobs/a%2Fb")
        assert (request.query, request.body) == ([("owner", "bob")], b'{"comment":"so"}')


async def test_records_are_those_of_a_job_or_of_a_group() -> None:
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(ValueError, match="either"):
            await client.records()
        with pytest.raises(ValueError, match="either"):
            await client.records("j", group="g")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(404, "job-not-found"), JobNotFound),
        (problem(409, "too-many-records"), TooManyRecords),
        (problem(409, "something-new"), Conflict),
        (problem(410, "job-expired"), JobGone),
        (problem(401, "unauthorized"), Unauthorized),
        (problem(403, "forbidden"), Forbidden),
        (problem(422, "bad-filter"), Rejected),
        (reply(404, "not ours"), Rejected),
        (reply(200, "not a job"), Rejected),
        (problem(503, "unavailable", retry_after="7"), Unavailable),
        (problem(429, "too-many-requests", retry_after="7"), Unavailable),
        (reply(502, "proxy"), Unavailable),
    ],
)
async def test_an_answer_that_is_no_job_is_a_typed_error(
    answer: Answer, error: type[ServiceError]
) -> None:
    async with scripted_api(answer) as api, Client(api.url) as client:
        with pytest.raises(error):
            await client.get("j1")


async def test_a_deleted_job_is_told_from_an_expired_one_and_retry_after_is_kept() -> None:
    answers = problem(410, "job-deleted"), problem(503, "unavailable", retry_after="7")
    async with scripted_api(*answers) as api, Client(api.url) as client:
        with pytest.raises(JobGone) as gone:
            await client.get("j1")
        assert gone.value.deleted
        with pytest.raises(Unavailable) as away:
            await client.get("j1")
        assert away.value.retry_after_s == 7


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(Unavailable, match="cannot reach"):
            await client.get("j1")


async def test_a_list_is_read_page_by_page_even_over_an_empty_page() -> None:
    pages = (
        reply(200, {"jobs": [job(1), job(2)], "next": "p2"}),
        reply(200, {"jobs": [], "next": "p3"}),
        reply(200, {"jobs": [job(3)], "next": None}),
    )
    async with scripted_api(*pages) as api, Client(api.url) as client:
        found = client.list(page_size=2, status=["running", "queued"], labels={"team": "x"})
        assert [job.version async for job in found] == [1, 2, 3]
    filters = [("status", "running"), ("status", "queued"), ("label.team", "x"), ("limit", "2")]
    assert api.requests[0].query == filters
    assert api.requests[2].query == [*filters, ("page", "p3")]


async def test_events_are_reported_over_http() -> None:
    said = Progressed(id="e1", source="/t", owner="alice", job_id="j1", percent=40)
    async with scripted_api(reply(202, {"accepted": 1})) as api, Client(api.url) as client:
        assert await client.report(said) == 1
    request = api.requests[0]
    assert (request.method, request.headers["content-type"]) == ("POST", BATCH)
    assert decode(request.body, BATCH, {}, trusted=False) == [said]


async def test_waiting_takes_one_request_when_the_job_ends_in_time() -> None:
    end = asyncio.Event()
    async with scripted_api(late(reply(200, ENDED), end)) as api, Client(api.url) as client:
        waiting = asyncio.create_task(client.wait("j1"))
        await eventually(lambda: api.requests)
        end.set()
        assert await waiting == ENDED
        assert [request.query for request in api.requests] == [[("wait", "50.000")]]


async def test_waiting_goes_on_over_long_polls_cuts_and_overload() -> None:
    answers = (
        problem(503, "unavailable", retry_after="0"),
        stream("half a job", cut=True),
        reply(200, job(1), retry_after="0"),
        reply(200, ENDED),
    )
    async with scripted_api(*answers) as api, Client(api.url) as client:
        assert await client.wait("j1") == ENDED
        assert len(api.requests) == 4


async def test_waiting_honours_retry_after() -> None:
    answers = problem(503, "unavailable", retry_after="1"), reply(200, ENDED)
    async with scripted_api(*answers) as api, Client(api.url) as client:
        began = time.monotonic()
        await client.wait("j1")
        assert time.monotonic() - began >= 1


async def test_waiting_ends_in_time() -> None:
    async with scripted_api(reply(200, job(1), retry_after="30")) as api, Client(api.url) as client:
        with pytest.raises(TimeoutError, match=r"not ended within 0\.3 s"):
            await client.wait("j1", 0.3)


async def test_waiting_gives_up_on_a_job_that_stays_unknown_or_is_gone() -> None:
    patience = Patience(poll_s=0.2)
    answers = (
        problem(404, "job-not-found"),
        problem(404, "job-not-found"),
        problem(410, "job-expired"),
    )
    async with scripted_api(*answers) as api, Client(api.url, patience=patience) as client:
        with pytest.raises((JobNotFound, JobGone)):
            await client.wait("j1")


async def test_a_watcher_sees_the_snapshot_and_every_change_until_the_end() -> None:
    answer = stream(
        "retry: 2000\n: hello",
        opening("fresh"),
        event("snapshot", job(1), "1-0"),
        event("progressed", job(2, percent=40), "1-0"),
        event("succeeded", ENDED, "2-0"),
        hold=True,  # the end is the end, whatever the server does
    )
    async with scripted_api(answer) as api, Client(api.url) as client:
        found = await watched(client)
    assert [(change.event, change.cursor) for change in found] == [
        ("snapshot", "1-0"),
        ("progressed", "1-0"),
        ("succeeded", "2-0"),
    ]
    assert found[-1].job == ENDED
    assert "last-event-id" not in api.requests[0].headers


async def test_a_watcher_resumes_from_its_cursor_even_one_that_came_alone() -> None:
    answers = (
        stream(QUICK, opening("fresh"), event("snapshot", job(1), "1-0"), cut=True),
        stream(event("stream", "{}"), "id: 5-0", ": quiet"),
        stream(opening("resumed"), event("succeeded", ENDED, "6-0")),
    )
    async with scripted_api(*answers) as api, Client(api.url) as client:
        found = await watched(client)
    assert [change.event for change in found] == ["snapshot", "succeeded"]
    assert [r.headers.get("last-event-id") for r in api.requests] == [None, "1-0", "5-0"]


async def test_a_watcher_that_was_reset_does_not_repeat_what_it_has_seen() -> None:
    answers = (
        stream(QUICK, opening("fresh"), event("snapshot", job(2), "1-0")),
        stream(opening("reset"), event("snapshot", job(2), "9-0")),
        stream(opening("reset"), event("snapshot", ENDED, "9-1")),
    )
    async with scripted_api(*answers) as api, Client(api.url) as client:
        found = await watched(client)
    assert [change.job.version for change in found] == [2, 3]


async def test_a_watcher_notices_a_dead_connection() -> None:
    answers = (
        stream(QUICK, opening("fresh"), event("snapshot", job(1), "1-0"), hold=True),
        stream(opening("resumed"), event("succeeded", ENDED, "2-0")),
    )
    patience = Patience(quiet_s=0.2)
    async with scripted_api(*answers) as api, Client(api.url, patience=patience) as client:
        assert [change.event for change in await watched(client)] == ["snapshot", "succeeded"]


async def test_a_watcher_stops_on_204() -> None:
    async with scripted_api(no_content()) as api, Client(api.url) as client:
        assert await watched(client, cursor="7-0") == []
        assert api.requests[0].headers["last-event-id"] == "7-0"


async def test_a_watcher_waits_as_long_as_a_busy_server_wants() -> None:
    answers = stream("retry: 700\n: busy"), stream(event("snapshot", ENDED, "1-0"))
    async with scripted_api(*answers) as api, Client(api.url) as client:
        began = time.monotonic()
        assert len(await watched(client)) == 1
        assert time.monotonic() - began >= 0.7


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(404, "job-not-found"), JobNotFound),
        (problem(410, "job-expired"), JobGone),
        (problem(401, "unauthorized"), Unauthorized),
        (problem(403, "forbidden"), Forbidden),
        (reply(200, "no stream"), Rejected),
        (stream(event("started", "no job")), Rejected),
    ],
)
async def test_a_watcher_does_not_try_again_what_cannot_succeed(
    answer: Answer, error: type[ServiceError]
) -> None:
    async with scripted_api(answer) as api, Client(api.url) as client:
        with pytest.raises(error):
            await watched(client)
        assert len(api.requests) == 1


async def test_a_watcher_gives_up_on_a_job_that_never_appears() -> None:
    patience = Patience(unknown_s=0)
    async with (
        scripted_api(stream(QUICK, opening("fresh"))) as api,
        Client(api.url, patience=patience) as client,
    ):
        with pytest.raises(JobNotFound):
            await watched(client)


async def test_the_feed_goes_on_over_connections_with_its_filters() -> None:
    answers = (
        stream(
            QUICK,
            opening("fresh"),
            event("snapshot", job(1)),
            event("live", "{}", "1-0"),
            event("expiring", '{"in_s": 5}'),
        ),
        stream(opening("resumed"), event("succeeded", ENDED, "2-0"), hold=True),
    )
    async with scripted_api(*answers) as api, Client(api.url) as client:
        found = []
        async for change in client.watch_all(group="nightly"):
            found.append((change.event, change.cursor))
            if change.job.ended:
                break
    assert found == [("snapshot", None), ("succeeded", "2-0")]
    assert [request.query for request in api.requests] == [[("group", "nightly")]] * 2
    assert api.requests[1].headers["last-event-id"] == "1-0"
