"""The HMC dialect by hand, over TLS: what cannot be answered is refused in the words of the HMC."""

from typing import Any, Final

import pytest

from tests.dialects.hmc.world import World

pytestmark = pytest.mark.timeout(120)


ASKED: Final = [
    ("GET", "/api/jobs/x", {}, 403, 4),
    ("GET", "/api/jobs/x", {"headers": {"X-API-Session": "wrong"}}, 403, 5),
    ("GET", "/api/sse", {}, 403, 4),
    ("POST", "/api/sse", {}, 405, 1),
    ("DELETE", "/api/sessions/this-session", {}, 403, 4),
    ("PUT", "/api/jobs/x", {}, 405, 1),
    ("GET", "/api/sessions", {}, 405, 1),
    ("PROPFIND", "/api/version", {}, 405, 1),
    ("GET", "/api", {}, 404, 1),
    ("GET", "/api/", {}, 404, 1),
    ("GET", "/api/cpcs", {}, 404, 1),
    ("POST", "/api/jobs", {}, 404, 1),
    ("GET", "/api/version?x=1", {}, 400, 1),
    ("GET", "/api/version", {"content": b"{}"}, 400, 4),
    ("POST", "/api/sessions", {}, 400, 3),
    ("POST", "/api/sessions", {"json": {"userid": "a"}}, 400, 5),
    ("POST", "/api/sessions", {"json": {"userid": "a", "password": "b", "c": 1}}, 400, 6),
    ("POST", "/api/sessions", {"json": {"userid": 1, "password": "b"}}, 400, 7),
    ("POST", "/api/sessions", {"json": []}, 400, 7),
    ("POST", "/api/sessions", {"content": b"{"}, 400, 9),
    ("POST", "/api/sessions", {"content": b" " * 20_000}, 413, 0),
]


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: f"{asked[0]} {asked[1]} {asked[4]}")
def test_every_error_has_the_body_of_the_hmc(
    world: World, asked: tuple[str, str, dict[str, Any], int, int]
) -> None:
    method, path, more, status, reason = asked
    with world.http() as http:
        told = http.request(method, path, **more)
    assert told.headers["content-type"].startswith("application/json")
    body = told.json()
    assert (told.status_code, body["http-status"], body["reason"]) == (status, status, reason)
    assert body["message"]
    assert (body["request-method"], body["request-uri"]) == (method, path.partition("?")[0])
    assert body["request-authenticated-as"] is None
