"""The HMC dialect over TLS: the ends of jobs as server-sent events."""

from collections.abc import Iterator

import pytest
import zhmcclient

from tests.dialects.hmc.world import World, name_of
from tests.logins import Login

pytestmark = pytest.mark.timeout(120)


def test_the_ends_of_jobs_come_as_server_sent_events_and_are_resumed(
    world: World, session: zhmcclient.Session, alice: Login
) -> None:
    session.logon()
    first, second = world.job(session, alice), world.job(session, alice)
    headers = {"X-API-Session": session.session_id}
    with (
        world.http() as http,
        http.stream("GET", "/api/sse", headers=headers) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        assert until(lines, "event: live")[0].startswith("retry: ")
        world.report(alice, name_of(first), "succeeded", result={"secret": 1})
        told = until(lines, "data: ", "job-completion")
        assert told[-1] == (
            'data: {"headers":{"notification-type":"job-completion",'
            f'"job-uri":"{first.uri}"}},"body":null}}'
        )
        cursor = told[-2].removeprefix("id: ")
    world.ended(second, alice, "failed")
    world.report(alice, name_of(second), "recorded", target="t", code=0)
    with (
        world.http(1) as http,
        http.stream("GET", "/api/sse", headers=headers | {"Last-Event-ID": cursor}) as response,
    ):
        told = until(response.iter_lines(), "data: ", "job-completion")
        assert 'data: {"resume":"resumed"}' in told
        assert second.uri in told[-1]
    unknown = headers | {"Last-Event-ID": "1-1"}
    with world.http() as http, http.stream("GET", "/api/sse", headers=unknown) as response:
        told = until(response.iter_lines(), "event: live")
        assert 'data: {"resume":"reset"}' in told
        assert told.count("event: job-completion") == 2  # all that are kept, once more


def until(lines: Iterator[str], *words: str) -> list[str]:
    """The lines up to the one that holds all words."""
    found = []
    for line in lines:
        found.append(line)
        if all(word in line for word in words):
            return found
    raise AssertionError(f"the stream ended: {found}")


def test_a_stream_ends_with_its_session(world: World, session: zhmcclient.Session) -> None:
    session.logon()
    headers = {"X-API-Session": session.session_id}
    with world.http() as http, http.stream("GET", "/api/sse", headers=headers) as response:
        lines = response.iter_lines()
        assert until(lines, "event: live")
        session.logoff()
        assert until(lines, ": revoked")[-1] == ": revoked"
