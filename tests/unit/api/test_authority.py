"""What RabbitMQ is answered; that it asks these questions is in integration/test_authority.py."""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from api.authority import BODY_MAX, Authority, asked, vhost_of
from api.bearer import Claims
from api.deadlines import Deadlines
from api.identity import Credentials
from api.issuer import Issuer
from api.logon import Logons
from api.secret import CannotTell, Secret
from api.settings import Settings
from api.users import add_user, remove_user
from notifier.connection import connect
from notifier.users import Users
from tests.eventually import eventually

SECRET = "s" * 22
STOMP = "stomp-subscription-lv1It_r1mivI5W0Twxrr3w"
JWT = "a.j.wt"


class Word(Issuer):
    """An issuer who has signed one token."""

    def __init__(self, claims: Claims | None) -> None:
        self._claims = claims

    def claims(self, token: str, now: float) -> Claims | None:
        if self._claims is None:
            raise CannotTell("no keys")
        return self._claims if token == JWT and now < self._claims.expires_at else None

    async def settled(self) -> bool:
        return False


class Queues:
    """What RabbitMQ would say."""

    async def is_transient(self, queue: str) -> bool:
        return queue == STOMP


class Asking:
    def __init__(self, http: httpx.AsyncClient, users_file: Path, token: str) -> None:
        self.http = http
        self.users_file = users_file
        self.token = token

    async def ask(self, path: str, **fields: str) -> str:
        answer = await self.http.post(f"/{SECRET}/{path}", data=fields)
        assert answer.status_code == 200
        return answer.text

    async def login(self, name: str, password: str) -> str:
        return await self.ask("user", username=name, password=password)

    async def resource(self, user: str, name: str, permission: str = "read", tags: str = "") -> str:
        kind = "exchange" if name.startswith("job.") else "queue"
        about = {"vhost": "/", "resource": kind, "name": name, "permission": permission}
        return await self.ask("resource", username=user, tags=tags, **about)


@asynccontextmanager
async def asking(tmp_path: Path, issuer: Issuer | None = None) -> AsyncIterator[Asking]:
    users_file = tmp_path / "users.toml"
    token = add_user(users_file, "alice", ["subscriber"])
    settings = Settings(amqp_url="amqp://svc:pw@h/", redis_url="redis://h")
    redis = connect("redis://127.0.0.1:1")  # no connection is made
    credentials = Credentials(Users(users_file, {"svc"}), Secret(redis), issuer)
    app = asked(Authority(settings, Logons(credentials), Deadlines(), Queues()), SECRET)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://authority"
    ) as http:
        yield Asking(http, users_file, token)


async def test_a_user_of_the_file_logs_in_with_a_token_and_gets_no_tags(tmp_path: Path) -> None:
    async with asking(tmp_path) as rabbit:
        assert await rabbit.login("alice", rabbit.token) == "allow"
        assert await rabbit.login("alice", rabbit.token + "x") == "deny"
        assert await rabbit.login("alice", "") == "deny"
        assert await rabbit.login("bob", rabbit.token) == "deny"
        assert await rabbit.login("Alice", rabbit.token) == "deny"
        assert await rabbit.ask("user", username="alice") == "deny"


@pytest.mark.parametrize("name", ["guest", "svc", ""])
async def test_nobody_is_let_in_by_the_name_of_the_service_or_of_guest(
    tmp_path: Path, name: str
) -> None:
    issuer = Word(Claims(name, ("admin",), time.time() + 60))
    async with asking(tmp_path, issuer) as rabbit:
        assert await rabbit.login(name, JWT) == "deny"
        assert await rabbit.ask("vhost", username=name, vhost="/", tags="jobcast-admin") == "deny"
        assert await rabbit.resource(name, "job.events", tags="jobcast-admin") == "deny"


async def test_a_removed_user_is_refused_from_the_next_question_on(tmp_path: Path) -> None:
    async with asking(tmp_path) as rabbit:
        assert await rabbit.resource("alice", "sub.alice.c.n") == "allow"
        assert await rabbit.ask("vhost", username="alice", vhost="/") == "allow"
        remove_user(rabbit.users_file, "alice")
        assert await rabbit.login("alice", rabbit.token) == "deny"
        assert await rabbit.resource("alice", "sub.alice.c.n") == "deny"
        assert await rabbit.ask("vhost", username="alice", vhost="/") == "deny"


async def test_only_the_services_own_vhost_is_opened(tmp_path: Path) -> None:
    async with asking(tmp_path) as rabbit:
        assert await rabbit.ask("vhost", username="alice", vhost="other") == "deny"
        about = {"resource": "queue", "name": "sub.alice.c.n", "permission": "read"}
        assert await rabbit.ask("resource", username="alice", vhost="other", **about) == "deny"


async def test_the_roles_of_an_issuers_user_travel_as_tags(tmp_path: Path) -> None:
    issuer = Word(Claims("carol", ("subscriber", "x"), time.time() + 60))
    async with asking(tmp_path, issuer) as rabbit:
        assert await rabbit.login("carol", JWT) == "allow jobcast-subscriber"
        assert await rabbit.login("alice", JWT) == "deny"
        assert await rabbit.resource("carol", "sub.carol.c.n", tags="jobcast-subscriber") == "allow"
        assert await rabbit.resource("carol", "sub.carol.c.n") == "deny"
        assert await rabbit.resource("carol", "sub.alice.c.n", tags="jobcast-subscriber") == "deny"


async def test_what_the_file_says_of_a_user_beats_every_tag(tmp_path: Path) -> None:
    async with asking(tmp_path, Word(Claims("carol", (), time.time() + 60))) as rabbit:
        assert await rabbit.resource("alice", "job.lifecycle", "write", "jobcast-admin") == "deny"


async def test_a_jwt_with_the_name_of_a_user_of_the_file_brings_none_of_the_files_roles(
    tmp_path: Path,
) -> None:
    async with asking(tmp_path, Word(Claims("alice", (), time.time() + 60))) as rabbit:
        assert await rabbit.login("alice", JWT) == "deny"
        assert await rabbit.login("alice", rabbit.token) == "allow"


async def test_tags_count_for_nothing_without_an_issuer(tmp_path: Path) -> None:
    async with asking(tmp_path) as rabbit:
        assert await rabbit.resource("carol", "job.lifecycle", "write", "jobcast-admin") == "deny"


async def test_an_issuers_user_without_a_role_is_refused(tmp_path: Path) -> None:
    async with asking(tmp_path, Word(Claims("carol", ("x",), time.time() + 60))) as rabbit:
        assert await rabbit.login("carol", JWT) == "deny"


async def test_an_issuers_user_is_refused_everything_once_the_token_has_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expiry = time.time() + 60
    async with asking(tmp_path, Word(Claims("carol", ("subscriber",), expiry))) as rabbit:
        assert await rabbit.login("carol", JWT) == "allow jobcast-subscriber"
        monkeypatch.setattr(time, "time", lambda: expiry + 0.1)
        assert await rabbit.resource("carol", "sub.carol.c.n", tags="jobcast-subscriber") == "deny"


async def test_while_the_issuers_keys_are_not_known_a_jwt_is_refused_and_a_token_is_not(
    tmp_path: Path,
) -> None:
    async with asking(tmp_path, Word(None)) as rabbit:
        assert await rabbit.login("carol", JWT) == "deny"
        assert await rabbit.login("alice", rabbit.token) == "allow"


async def test_a_stomp_queue_is_read_only_where_rabbitmq_says_that_it_is_not_durable(
    tmp_path: Path,
) -> None:
    durable = "stomp-subscription-" + "d" * 22
    async with asking(tmp_path) as rabbit:
        assert await rabbit.resource("alice", STOMP) == "allow"
        assert await rabbit.resource("alice", durable, "configure") == "allow"
        assert await rabbit.resource("alice", durable, "read") == "deny"
        assert await rabbit.resource("alice", durable, "write") == "deny"


async def test_a_topic_is_asked_for_by_key(tmp_path: Path) -> None:
    async with asking(tmp_path) as rabbit:
        about = {"username": "alice", "vhost": "/", "resource": "topic", "name": "job.events"}
        about |= {"permission": "read"}
        assert await rabbit.ask("topic", **about, routing_key="alice.#") == "allow"
        assert await rabbit.ask("topic", **about, routing_key="bob.#") == "deny"
        assert await rabbit.ask("topic", **about) == "deny"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"username=alice",
        b"username",
        b"username=alice&username=bob&vhost=/",
        b"username=%FF&vhost=/",
        b"\xff=1",
        b"username=alice&vhost=/&x=" + b"a" * BODY_MAX,
        b"username=alice&vhost=/&" + b"&".join(b"x%d=1" % number for number in range(64)),
    ],
)
async def test_a_bad_question_is_answered_deny(tmp_path: Path, body: bytes) -> None:
    async with asking(tmp_path) as rabbit:
        answer = await rabbit.http.post(f"/{SECRET}/vhost", content=body)
        assert (answer.status_code, answer.text) == (200, "deny")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/user"),
        ("POST", f"/{SECRET}x/user"),
        ("POST", f"/{SECRET}/x"),
        ("POST", f"/{SECRET}/"),
        ("POST", f"/x/{SECRET}/user"),
        ("POST", f"/{SECRET}/user/"),
        ("POST", "/"),
        ("POST", "/ü/user"),
        ("GET", f"/{SECRET}/user"),
    ],
)
async def test_whoever_does_not_know_the_secret_finds_nothing(
    tmp_path: Path, method: str, path: str
) -> None:
    async with asking(tmp_path) as rabbit:
        data = {"username": "alice", "password": rabbit.token}
        answer = await rabbit.http.request(method, path, data=data)
        assert (answer.status_code, answer.content) == (404, b"")


async def test_a_refusal_is_in_the_audit_log_without_the_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async with asking(tmp_path) as rabbit:

        async def written() -> bool:
            # More refusals in a second, of other tests as well, are counted and not written.
            await rabbit.login("alice", "a-wrong-password")
            await rabbit.resource("alice", "sub.bob.c.n")
            lines[:] = [one.getMessage() for one in caplog.records if one.name == "jobcast.audit"]
            return any("who=alice" in line and "sub.bob.c.n" in line for line in lines) and any(
                "login" in line for line in lines
            )

        lines: list[str] = []
        await eventually(written, every_s=0.2)
    assert "a-wrong-password" not in caplog.text
    assert SECRET not in "".join(lines)


@pytest.mark.parametrize(
    ("url", "vhost"),
    [("amqp://h", "/"), ("amqp://h/", "/"), ("amqp://h/%2F", "/"), ("amqp://h/a%2Fb?x=1", "a/b")],
)
def test_the_vhost_is_that_of_the_amqp_url(url: str, vhost: str) -> None:
    assert vhost_of(url) == vhost
