"""What an API replica counts, and putting the figures of many together. No I/O but /proc."""

from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from api.figures import ApiFigures, asks_to_wait
from api.metrics import Collected, merged
from notifier.figures import Exported, Family, Figures, Sample


def scope(**fields: Any) -> Scope:
    return {"type": "http", "method": "GET", "query_string": b"", "headers": []} | fields


def values(figures: ApiFigures, name: str) -> dict[tuple[str, ...], float]:
    """The samples of this name that are not nought, by the values of their labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in figures.registry.collect()
        for sample in family.samples
        if sample.name == name and sample.value
    }


def test_a_request_counts_under_its_routes_template_alone() -> None:
    figures = ApiFigures(1)
    route = Route("/v1/jobs/{id}", lambda request: PlainTextResponse(""))
    figures.request(scope(path="/v1/jobs/secret", route=route), 200)
    figures.request(scope(path="/v1/jobs/secret", route=route), 204)
    figures.request(scope(path="/wp-admin"), 404)
    figures.request(scope(path="/", method="BREW"), 405)
    assert values(figures, "jobcast_http_requests_total") == {
        ("GET", "/v1/jobs/{id}", "2xx"): 2,
        ("GET", "none", "4xx"): 1,
        ("other", "none", "4xx"): 1,
    }


@pytest.mark.parametrize(
    ("fields", "waits"),
    [
        ({}, False),
        ({"query_string": b"wait=5"}, True),
        ({"query_string": b"owner=a&wait=5"}, True),
        ({"headers": [(b"prefer", b"respond-async, wait=10")]}, True),
        ({"headers": [(b"prefer", b"return=minimal")]}, False),
    ],
)
def test_a_long_poll_is_told_from_a_read(fields: dict[str, Any], waits: bool) -> None:
    assert asks_to_wait(scope(**fields)) == waits


async def test_a_long_poll_that_fails_waits_no_more() -> None:
    figures = ApiFigures(1)
    during = []

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        during.append(values(figures, "jobcast_long_polls_waiting"))
        raise ConnectionError

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        pass

    app = figures.polled(failing)
    with pytest.raises(ConnectionError):
        await app(scope(query_string=b"wait=5"), receive, send)
    assert during == [{(): 1}]
    assert values(figures, "jobcast_long_polls_waiting") == {}


def test_an_answer_that_is_not_known_is_not_counted() -> None:
    figures = ApiFigures(1)
    figures.began("feed", b'{"resume":"alice"}')
    figures.began("job", b'{"resume":"reset"}')
    assert values(figures, "jobcast_stream_resumes_total") == {("reset",): 1}
    assert values(figures, "jobcast_streams_opened_total") == {("feed",): 1, ("job",): 1}


def test_notifiers_of_two_releases_make_each_family_once() -> None:
    older = Exported(
        1.0, [Family("jobcast_x", "counter", "older", [Sample("jobcast_x_total", {}, 1)])]
    )
    figures = Figures()
    figures.dead_lettered("poison")
    newer = figures.exported()
    newer.families.append(
        Family("jobcast_x", "counter", "newer", [Sample("jobcast_x_total", {"more": "y"}, 2)])
    )
    text = generate_latest(Collected(merged({"old": older, "new": newer}))).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    found = {tuple(sorted(s.labels.items())): s.value for s in families["jobcast_x"].samples}
    assert found == {(("notifier", "old"),): 1, (("more", "y"), ("notifier", "new")): 2}
    assert [sample.value for sample in families["jobcast_notifiers"].samples] == [2]
    assert text.count("# TYPE jobcast_x_total counter") == 1
