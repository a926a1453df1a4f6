"""`GET /v1/jobs/{id}/events` and `GET /v1/events`."""

import asyncio

import pytest

from tests.contract.test_http.conftest import Door, Executor
from tests.contract.test_http.reading import Block
from tests.contract.test_http.test_jobs import known


def story(blocks: list[Block]) -> list[str | None]:
    return [block.event for block in blocks]


async def test_a_stream_is_opened_as_the_protocol_says(
    door: Door, executor: Executor, job: str
) -> None:
    await executor.report("started", job)
    await known(door, job)
    async with door.events(f"/v1/jobs/{job}/events") as reading:
        headers = reading.response.headers
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["cache-control"] == "no-cache, no-transform"
        assert headers["x-accel-buffering"] == "no"
        assert headers["x-request-id"]
        first, snapshot = await reading.next(), await reading.next()
    assert (first.event, first.id, first.data) == ("stream", None, {"resume": "fresh"})
    assert first.retry is not None
    assert 1_000 <= first.retry <= 5_000
    assert snapshot.event == "snapshot"
    assert snapshot.id
    body = (await door.get(f"/v1/jobs/{job}")).json()
    del body["links"]
    assert snapshot.data == body


async def test_a_jobs_stream_ends_with_it_and_is_not_opened_again(
    door: Door, second: Door, executor: Executor, job: str
) -> None:
    await executor.report("queued", job)
    await known(door, job)
    async with door.events(f"/v1/jobs/{job}/events") as reading:
        await reading.until("snapshot")
        for word in ("started", "succeeded"):
            await executor.report(word, job)
        blocks = await reading.rest()
    assert story(blocks) == ["started", "succeeded"]
    assert [block.data["version"] for block in blocks] == [2, 3]
    for replica in (door, second):
        for cursor, status in ((blocks[-1].id, 204), (blocks[0].id, 200), ("x", 200)):
            headers = {"Last-Event-ID": str(cursor)}
            response = await replica.get(f"/v1/jobs/{job}/events", headers=headers)
            assert response.status_code == status


async def test_a_job_that_has_ended_is_a_snapshot_and_a_close(
    door: Door, executor: Executor, job: str
) -> None:
    await executor.report("canceled", job)
    await known(door, job)
    async with door.events(f"/v1/jobs/{job}/events") as reading:
        blocks = await reading.rest()
    assert story(blocks) == ["stream", "snapshot"]
    assert blocks[1].data["status"] == "canceled"


async def test_a_job_not_yet_known_appears_and_one_with_a_cursor_is_404(
    door: Door, executor: Executor, job: str
) -> None:
    response = await door.get(f"/v1/jobs/{job}/events?last_event_id=1-0")
    assert response.status_code == 404
    async with door.events(f"/v1/jobs/{job}/events") as reading:
        assert (await reading.next()).event == "stream"
        await executor.report("started", job)
        snapshot = await reading.next()
        assert (snapshot.event, snapshot.data["id"]) == ("snapshot", job)
        await executor.report("failed", job)
        assert story(await reading.rest()) == ["failed"]


async def test_a_foreign_job_behaves_like_an_unknown_one(
    door: Door, executor: Executor, job: str
) -> None:
    executor.owner = "somebody-else"
    await executor.report("started", job)
    async with door.events(f"/v1/jobs/{job}/events") as reading:
        assert (await reading.next()).event == "stream"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reading.next(), 0.5)
    response = await door.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "1-0"})
    unknown = await door.get("/v1/jobs/unknown/events", headers={"Last-Event-ID": "1-0"})
    assert (response.status_code, response.content) == (404, unknown.content)


async def test_the_feed_opens_with_the_live_jobs_and_follows_all(
    door: Door, executor: Executor, job: str
) -> None:
    await executor.report("succeeded", f"{job}-ended")
    await executor.report("started", job)
    await known(door, job)
    await known(door, f"{job}-ended")
    async with door.events() as reading:
        opening = await reading.until("live")
        assert story(opening) == ["stream", "snapshot", "live"]
        assert opening[1].data["id"] == job
        assert opening[1].id is None
        assert opening[2].id
        assert opening[2].data == {}
        await executor.report("progressed", job, percent=10)
        progress = await reading.next()
        assert (progress.event, progress.id) == ("progressed", opening[2].id)
        await executor.report("queued", f"{job}-new")
        assert (await reading.next()).data["id"] == f"{job}-new"


async def test_a_feed_is_resumed_at_any_replica_without_loss_or_repeat(
    door: Door, second: Door, executor: Executor, job: str
) -> None:
    async with door.events() as reading:
        cursor = (await reading.until("live"))[-1].id
    for number in range(5):
        await executor.report("started", f"{job}-{number}")
    await known(door, f"{job}-4")
    seen: list[str] = []
    for replica in (second, door):
        async with replica.events(params={"last_event_id": cursor}) as reading:
            first = await reading.next()
            assert first.data == {"resume": "resumed"}
            while len(seen) < 3 or (replica is door and len(seen) < 5):
                block = await reading.next()
                if block.event == "started":
                    seen.append(block.data["id"])
                    cursor = block.id
    assert seen == [f"{job}-{number}" for number in range(5)]


@pytest.mark.parametrize("cursor", ["nonsense", "1-0", "99999999999999-0", "0-0-0"])
async def test_an_unknown_cursor_is_a_reset_with_everything_still_kept(
    door: Door, executor: Executor, job: str, cursor: str
) -> None:
    await executor.report("succeeded", f"{job}-ended")
    await executor.report("started", job)
    await known(door, job)
    await known(door, f"{job}-ended")
    async with door.events(headers={"Last-Event-ID": cursor}) as reading:
        opening = await reading.until("live")
    assert opening[0].data == {"resume": "reset"}
    assert {block.data["id"] for block in opening[1:-1]} == {job, f"{job}-ended"}


async def test_the_header_beats_the_query(door: Door, executor: Executor, job: str) -> None:
    async with door.events() as reading:
        cursor = (await reading.until("live"))[-1].id or ""
    await executor.report("started", job)
    await known(door, job)
    async with door.events(
        params={"last_event_id": "nonsense"}, headers={"Last-Event-ID": cursor}
    ) as reading:
        assert (await reading.next()).data == {"resume": "resumed"}
    async with door.events(params={"lastEventId": cursor}) as reading:
        assert (await reading.next()).data == {"resume": "resumed"}


@pytest.mark.parametrize(
    "query", ["job=wanted&job=other", "group=night", "operation=backup", "label.site=x"]
)
async def test_a_feed_is_filtered_by_what_the_job_is_after_the_change(
    door: Door, executor: Executor, query: str
) -> None:
    described = {"operation": "backup", "group": "night", "labels": {"site": "x"}}
    await executor.report("queued", "wanted", **described)
    await executor.report("queued", "unwanted")
    await known(door, "unwanted")
    async with door.events(f"/v1/events?{query}") as reading:
        opening = await reading.until("live")
        assert [block.data["id"] for block in opening[1:-1]] == ["wanted"]
        await executor.report("started", "unwanted")
        await executor.report("succeeded", "wanted")
        assert (await reading.next()).data["id"] == "wanted"


@pytest.mark.parametrize(
    "query", ["status=succeeded", "outcome=normal&created_before=2999-01-01T00:00:00Z"]
)
async def test_a_feed_tells_of_a_job_once_it_comes_to_belong(
    door: Door, executor: Executor, job: str, query: str
) -> None:
    await executor.report("queued", job)
    await known(door, job)
    async with door.events(f"/v1/events?{query}&created_after=2020-01-01T00:00:00Z") as reading:
        assert [block.event for block in await reading.until("live")] == ["stream", "live"]
        for word in ("started", "succeeded"):
            await executor.report(word, job)
        assert (await reading.next()).event == "succeeded"


async def test_a_bad_filter_of_a_feed_is_named(door: Door) -> None:
    response = await door.get("/v1/events?status=done")
    assert response.status_code == 422


async def test_head_of_a_stream_is_its_headers(door: Door) -> None:
    response = await door.http.head("/v1/events")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
