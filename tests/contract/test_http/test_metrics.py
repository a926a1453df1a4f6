"""`/metrics`: who may read it, what it says of streams and requests, and what it never says."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_families,
)
from prometheus_client.parser import text_string_to_metric_families

from api.figures import ANSWERS, CUTS, KINDS, METHODS, PUT_OFF
from deploy.redis import RedisNode
from deploy.stack import ROOT, Replica, Stack
from notifier.connection import connect
from notifier.figures import OTHER, QUERIES, REASONS, Figures, exporting, process_name
from tests.contract.test_http.conftest import Door, Executor, OwnApi
from tests.contract.test_http.reading import Reading
from tests.contract.test_http.test_jobs import known
from tests.eventually import eventually
from tests.logins import Login, Logins


class Scrape:
    """One answer of `/metrics`, parsed as Prometheus does it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: list[Metric] = list(text_string_to_metric_families(text))

    def value(self, name: str, **labels: str) -> float | None:
        """The sum over the samples of this name with these labels; None where there is none."""
        found = [
            sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    def labels(self, name: str) -> set[str]:
        """The values of the label `name`."""
        samples = [sample for family in self.families for sample in family.samples]
        return {sample.labels[name] for sample in samples if name in sample.labels}


async def scrape(url: str, login: Login) -> Scrape:
    async with httpx.AsyncClient(base_url=url, headers=login.headers, timeout=15) as client:
        response = await client.get("/metrics")
    assert response.status_code == 200, response.text
    return Scrape(response.text)


@pytest.fixture
async def counting(redis_server: RedisNode) -> AsyncIterator[Figures]:
    """The figures of a notifier that does nothing."""
    redis, figures = connect(redis_server.url, name="jobcast-test"), Figures()
    async with exporting(figures, redis, process_name(), every_s=0.05):
        yield figures
    await redis.aclose()


async def test_metrics_are_for_admins_alone(stack: Stack, logins: Logins) -> None:
    async with httpx.AsyncClient(base_url=stack.urls[0]) as client:
        nobody = await client.get("/metrics")
        assert (nobody.status_code, nobody.json()["type"]) == (401, "/problems/unauthorized")
        assert nobody.headers["www-authenticate"].startswith("Bearer")
        for login in (logins.alice, logins.executor):
            refused = await client.get("/metrics", headers=login.headers)
            assert (refused.status_code, refused.json()["type"]) == (403, "/problems/forbidden")
            assert "jobcast_" not in refused.text
        assert (await client.post("/metrics", headers=logins.admin.headers)).status_code == 405
        good = await client.get("/metrics", headers=logins.admin.headers)
    assert good.status_code == 200
    assert good.headers["content-type"].startswith("text/plain")
    assert good.headers["cache-control"] == "no-store"
    assert Scrape(good.text).value("jobcast_up") == 2


async def test_the_open_metrics_format_is_spoken_to_those_who_ask_for_it(
    stack: Stack, logins: Logins
) -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    headers = logins.admin.headers | accept
    async with httpx.AsyncClient(base_url=stack.urls[0], headers=headers) as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    # The library has typed its other parser, not this one.
    families = open_families(answer.text)  # type: ignore[no-untyped-call]
    assert "jobcast_up" in {family.name for family in families}


def documented() -> Iterator[tuple[str, str, frozenset[str]]]:
    """(name, type, labels) of every row of the tables."""
    row = re.compile(r"^\| `([a-z_]+)` \| (\w+) \| ([a-z`, ]*)\|", re.MULTILINE)
    for name, kind, labels in row.findall((ROOT / "docs/metrics.md").read_text()):
        yield name, kind, frozenset(re.findall(r"`(\w+)`", labels))


def given(answer: Scrape) -> Iterator[tuple[str, str, frozenset[str]]]:
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", answer.text, re.MULTILINE))
    for family in answer.families:
        name = family.name if family.name in kinds else f"{family.name}_total"
        labels = {label for sample in family.samples for label in sample.labels}
        yield name, kinds[name], frozenset(labels - {"le"})


async def test_the_document_lists_what_is_given_and_nothing_else(
    stack: Stack, logins: Logins, counting: Figures
) -> None:
    await scrape(stack.urls[0], logins.admin)  # or no request has been counted yet
    answer = await scrape(stack.urls[0], logins.admin)
    assert sorted(documented()) == sorted(given(answer))


async def test_every_alert_speaks_of_metrics_that_there_are(
    stack: Stack, logins: Logins, counting: Figures
) -> None:
    answer = await scrape(stack.urls[0], logins.admin)
    there = {sample.name for family in answer.families for sample in family.samples}
    text = (ROOT / "docs/alerts.yml").read_text()
    rules = re.findall(r"^ +- alert: (\w+)$", text, re.MULTILINE)
    assert 5 <= len(rules) == len(set(rules))
    used = set(re.findall(r"\bjobcast_\w+|\bprocess_\w+", text))
    assert used - there == set()


async def test_streams_are_counted_by_kind_and_by_the_answer_to_their_cursor(
    own_api: OwnApi, executor: Executor, door: Door, logins: Logins, job: str
) -> None:
    await executor.report("started", job)
    await known(door, job)
    with own_api() as replica:
        async with httpx.AsyncClient(base_url=replica.url, headers=door.http.headers) as client:
            async with Reading(client, "/v1/events") as feed:
                live = (await feed.until("live"))[-1]
                async with Reading(client, f"/v1/jobs/{job}/events") as one:
                    await one.until("snapshot")
                    during = await scrape(replica.url, logins.admin)
            for cursor in (live.id, "no-cursor"):
                async with Reading(client, f"/v1/events?last_event_id={cursor}") as again:
                    await again.until("stream")
            await executor.report("succeeded", job)
            await known(door, job, 2)
            async with Reading(client, f"/v1/jobs/{job}/events") as ended:
                last = (await ended.rest())[-1]
            over = await client.get(f"/v1/jobs/{job}/events?last_event_id={last.id}")
            assert over.status_code == 204
        await eventually(lambda: none_open(replica, logins))
        after = await scrape(replica.url, logins.admin)
    assert during.value("jobcast_streams_open", kind="feed") == 1
    assert during.value("jobcast_streams_open", kind="job") == 1
    assert after.value("jobcast_streams_opened_total", kind="feed") == 3
    assert after.value("jobcast_streams_opened_total", kind="job") == 2
    answers = {a: after.value("jobcast_stream_resumes_total", answer=a) for a in ANSWERS}
    assert answers == {"fresh": 3, "resumed": 1, "reset": 1, "none": 1}
    assert (after.value("jobcast_stream_frames_total") or 0) >= 9
    route = "/v1/jobs/{id}/events"
    assert after.value("jobcast_http_requests_total", route=route, status="2xx") == 3


async def none_open(replica: Replica, logins: Logins) -> bool:
    return (await scrape(replica.url, logins.admin)).value("jobcast_streams_open") == 0


async def test_streams_that_are_put_off_are_counted_by_cause(
    own_api: OwnApi, subscriber: Login, logins: Logins
) -> None:
    limits = {"JOBCAST_STREAMS_PER_USER": "1", "JOBCAST_STREAMS_MAX": "1"}
    with own_api(**limits) as replica:
        async with (
            httpx.AsyncClient(base_url=replica.url, headers=subscriber.headers) as client,
            httpx.AsyncClient(base_url=replica.url, headers=logins.bob.headers) as other,
            Reading(client, "/v1/events") as reading,
        ):
            await reading.until("stream")
            assert (await client.get("/v1/events")).status_code == 429
            assert (await other.get("/v1/events")).text.startswith("retry: ")
            answer = await scrape(replica.url, logins.admin)
    assert answer.value("jobcast_streams_limit") == 1
    causes = {
        cause: answer.value("jobcast_streams_put_off_total", cause=cause) for cause in PUT_OFF
    }
    assert causes == dict.fromkeys(PUT_OFF, 0) | {"user-limit": 1, "process-limit": 1}
    assert answer.value("jobcast_http_requests_total", route="/v1/events", status="4xx") == 1


async def test_long_polls_are_counted_while_they_wait(
    own_api: OwnApi, executor: Executor, door: Door, logins: Logins, job: str
) -> None:
    await executor.report("started", job)
    await known(door, job)
    with own_api() as replica:
        async with httpx.AsyncClient(base_url=replica.url, headers=door.http.headers) as client:

            async def waiting(count: int) -> bool:
                answer = await scrape(replica.url, logins.admin)
                return answer.value("jobcast_long_polls_waiting") == count

            poll = client.build_request("GET", f"/v1/jobs/{job}", headers={"Prefer": "wait=30"})
            answering = asyncio.create_task(client.send(poll))
            await eventually(lambda: waiting(1))
            await executor.report("succeeded", job)
            assert (await answering).json()["status"] == "succeeded"
            await eventually(lambda: waiting(0))


async def test_no_label_holds_a_name_a_path_or_anything_else_of_a_request(
    own_api: OwnApi, executor: Executor, door: Door, logins: Logins, job: str
) -> None:
    await executor.report("started", job)
    await known(door, job)
    with own_api() as replica:
        async with httpx.AsyncClient(base_url=replica.url, headers=door.http.headers) as client:
            for path in (f"/v1/jobs/{job}", f"/v1/jobs/{job}/nowhere", "/secret-path", "/v1/x?y=z"):
                await client.get(path)
            await client.request("BREW", f"/v1/jobs/{job}")
            await client.get("/v1/jobs", headers={"Authorization": "Bearer mistaken"})
            await client.get(f"/v1/jobs/not-{job}/events?last_event_id=bad")
        answer = await scrape(replica.url, logins.admin)
    for private in (job, door.name, "admin", "secret", "nowhere", "BREW", "mistaken", "Bearer"):
        assert private not in answer.text
    bounded: dict[str, Any] = {
        "answer": {*ANSWERS, *QUERIES},
        "cause": {*CUTS, *PUT_OFF},
        "kind": set(KINDS),
        "method": METHODS | {"other"},
        "part": {"rabbitmq", "redis"},
        "queue": {"jobcast.state.0", "jobcast.dead"},
        "reason": REASONS | {OTHER},
        "status": {"1xx", "2xx", "3xx", "4xx", "5xx"},
    }
    for name, values in bounded.items():
        assert answer.labels(name) <= values, name
    assert answer.labels("route") >= {"none", "/v1/jobs/{id}", "/v1/jobs/{id}/events"}
    assert not any(job in route for route in answer.labels("route"))
    used = {label for f in answer.families for s in f.samples for label in s.labels}
    assert used <= {*bounded, "route", "notifier", "le"}
