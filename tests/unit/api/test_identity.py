import base64
from pathlib import Path

import pytest
from starlette.datastructures import Headers, QueryParams

from api.identity import Identity, authenticate, read_owner, same_origin
from api.problems import Problem
from api.session import COOKIE, seal
from api.users import Users, add_user, digest


@pytest.fixture
def alice(tmp_path: Path) -> tuple[Users, str]:
    token = add_user(tmp_path / "users.toml", "al:ice", ["subscriber"])
    return Users(tmp_path / "users.toml"), token


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def who(users: Users, **headers: str) -> str | None:
    identity = authenticate(Headers(headers), users, 0)
    return None if identity is None else f"{identity.user} by {identity.by}"


def test_a_token_opens_as_bearer_and_as_basic_password(alice: tuple[Users, str]) -> None:
    users, token = alice
    assert who(users, authorization=f"Bearer {token}") == "al:ice by token"
    assert who(users, authorization=f"bearer   {token}") == "al:ice by token"
    assert who(users, authorization=basic(f"al:ice:{token}")) == "al:ice by token"


def test_a_session_cookie_opens(alice: tuple[Users, str]) -> None:
    users, token = alice
    cookie = f"a=b; {COOKIE}={seal('al:ice', digest(token), 1)}"
    assert who(users, cookie=cookie) == "al:ice by cookie"
    assert who(users, cookie=cookie, authorization="Bearer wrong") is None


@pytest.mark.parametrize(
    "value", ["Bearer", "Bearer x", "Basic", "Basic !", "Basic /w==", "Basic ü", "Digest x", ""]
)
def test_anything_else_does_not(alice: tuple[Users, str], value: str) -> None:
    users, token = alice
    assert who(users, authorization=value) is None
    assert who(users, authorization=f"Token {token}") is None
    assert who(users, authorization=basic(f"bob:{token}")) is None
    assert who(users, authorization=basic(token)) is None
    assert who(users, cookie=f"{COOKIE}={token}") is None
    assert who(users) is None


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "https://a.b", "host": "a.b"}, False),
        ({"origin": "https://a.b", "host": "a.b"}, True),
        ({"origin": "http://a.b:8080", "host": "a.b:8080"}, True),
        ({"origin": "https://a.b.evil", "host": "a.b"}, False),
        ({"origin": "null", "host": "a.b"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"host": "a.b"}, False),
    ],
)
def test_only_a_page_of_ours_counts_as_the_same_origin(headers: dict[str, str], same: bool) -> None:
    assert same_origin(Headers(headers)) is same


def owner(query: str, *roles: str) -> str:
    scope = {"identity": Identity("alice", roles, "token", "")}
    return read_owner(scope, QueryParams(query))


def test_everybody_reads_their_own_and_an_admin_reads_for_others() -> None:
    assert owner("", "subscriber") == "alice"
    assert owner("owner=alice", "subscriber") == "alice"
    assert owner("owner=bob", "admin") == "bob"
    assert owner("", "admin") == "alice"


@pytest.mark.parametrize(
    ("query", "role", "problem"),
    [
        ("owner=bob", "subscriber", "forbidden"),
        ("", "executor", "forbidden"),
        ("owner=a/b", "admin", "invalid-parameter"),
        ("owner=", "admin", "invalid-parameter"),
    ],
)
def test_nobody_else_reads_for_another_owner(query: str, role: str, problem: str) -> None:
    with pytest.raises(Problem, match=problem):
        owner(query, role)
