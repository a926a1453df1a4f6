import base64
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.datastructures import Headers, QueryParams

from api.gate import same_origin
from api.identity import (
    Identity,
    by_password,
    by_session,
    holds,
    read_owner,
    session_expiry,
    session_of,
)
from api.issuer import Issuer
from api.problems import Problem
from api.session import COOKIE, Purposes, cookie
from api.ticket import Right
from api.users import remove_user, rotate_token
from notifier.users import digest
from tests.unit.api.door import Alice, credentials


@pytest.fixture
def alice(tmp_path: Path) -> Alice:
    return Alice(tmp_path / "users.toml")


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_a_token_opens_as_bearer_and_as_basic_password(alice: Alice) -> None:
    who, token = alice.who, alice.token
    assert who(authorization=f"Bearer {token}") == "al:ice by token"
    assert who(authorization=f"bearer   {token}") == "al:ice by token"
    assert who(authorization=basic(f"al:ice:{token}")) == "al:ice by token"


def test_a_session_cookie_opens(alice: Alice) -> None:
    value = f"a=b; {COOKIE}={cookie('al:ice', digest(alice.token), 1)}"
    assert alice.who(cookie=value) == "al:ice by cookie"
    assert alice.who(cookie=value, authorization="Bearer wrong") is None
    opened = alice.identity(cookie=value)
    assert opened is not None
    assert (opened.expires_at, opened.token_sha256) == (1, digest(alice.token))
    rotate_token(alice.path, "al:ice")
    assert alice.who(cookie=value) is None


OTHER = Purposes(b"other", b"other of an issuer")


def test_a_session_is_for_its_purposes_and_ends_with_its_token(alice: Alice) -> None:
    who = alice.identity(authorization=f"Bearer {alice.token}")
    assert who is not None
    for purposes, others in ((OTHER, None), (None, OTHER)):
        own = {} if purposes is None else {"purposes": purposes}
        another = {} if others is None else {"purposes": others}
        value = session_of(who, alice.by.secret, 10, **own)
        found = by_session(value, alice.by, 9, **own)
        assert found is not None
        assert (found.user, found.expires_at) == ("al:ice", 10)
        assert by_session(value, alice.by, 10, **own) is None
        assert by_session(value, alice.by, 9, **another) is None
    rotate_token(alice.path, "al:ice")
    assert by_session(value, alice.by, 9) is None


def test_a_session_of_an_issuers_user_is_for_its_purposes_too(alice: Alice) -> None:
    by = credentials(alice.path, cast("Issuer", object()))
    who = Identity("carol", ("subscriber", "executor"), "jwt", "", 60)
    value = session_of(who, by.secret, 10, OTHER)
    found = by_session(value, by, 9, OTHER)
    assert found is not None
    assert (found.user, found.roles, found.expires_at) == ("carol", ("subscriber", "executor"), 10)
    assert by_session(value, by, 9) is None
    assert by_session(value, by, 10, OTHER) is None
    assert by_session(value, alice.by, 9, OTHER) is None  # there is no issuer any more


def test_a_session_lasts_12_hours_and_not_longer_than_what_opens_it() -> None:
    assert session_expiry(Identity("a", (), "token", "x"), 1_000) == 1_000 + 43_200
    assert session_expiry(Identity("a", (), "jwt", "", 1_060.5), 1_000) == 1_060


@pytest.mark.parametrize(
    "value", ["Bearer", "Bearer x", "Basic", "Basic !", "Basic /w==", "Basic ü", "Digest x", ""]
)
def test_anything_else_does_not(alice: Alice, value: str) -> None:
    who, token = alice.who, alice.token
    assert who(authorization=value) is None
    assert who(authorization=f"Token {token}") is None
    assert who(authorization=basic(f"bob:{token}")) is None
    assert who(authorization=basic(token)) is None
    assert who(cookie=f"{COOKIE}={token}") is None
    assert who() is None


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


def test_a_password_counts_for_its_own_name_alone(alice: Alice) -> None:
    found = by_password("al:ice", alice.token, alice.by, 0)
    assert found is not None
    assert (found.user, found.by, found.expires_at) == ("al:ice", "token", None)
    assert by_password("bob", alice.token, alice.by, 0) is None
    assert by_password("al:ice", "wrong", alice.by, 0) is None
    assert by_password("al:ice", "", alice.by, 0) is None


def ticket(alice: Alice, *, owner: str = "al:ice", expires: int = 1_000, **said: Any) -> str:
    right = Right("job-1", owner, "al:ice", issued=False)._replace(**said)
    return right.ticket(bytes.fromhex(digest(alice.token)), expires)


def test_a_ticket_opens_one_job_of_one_owner_until_it_expires(alice: Alice) -> None:
    found = alice.identity(999.9, ticket(alice))
    assert found is not None
    assert (found.by, found.job, found.owner, found.expires_at) == (
        "ticket",
        "job-1",
        "al:ice",
        1_000,
    )
    assert found.roles == ("subscriber",)
    assert alice.identity(1_000, ticket(alice)) is None


def test_a_ticket_ends_with_the_token_behind_it(alice: Alice) -> None:
    given = ticket(alice)
    found = alice.identity(0, given)
    assert found is not None
    assert holds(found, alice.by.users, 0)
    rotate_token(alice.path, "al:ice")
    assert alice.identity(0, given) is None
    assert not holds(found, alice.by.users, 0)
    remove_user(alice.path, "al:ice")
    assert alice.identity(0, given) is None


def test_a_ticket_for_another_owner_is_an_admins_alone(tmp_path: Path) -> None:
    admin = Alice(tmp_path / "admins.toml", "admin")
    assert admin.identity(0, ticket(admin, owner="bob")) is not None
    other = Alice(tmp_path / "users.toml")
    assert other.identity(0, ticket(other, owner="bob")) is None


@pytest.mark.parametrize("way", ["x", "", "9.x", "9..job-1!al:ice!al:ice", "9.x.a!b!c!d!e!f"])
def test_what_is_no_ticket_opens_nothing(alice: Alice, way: str) -> None:
    assert alice.identity(0, way) is None


def test_a_ticket_that_was_tampered_with_opens_nothing(alice: Alice) -> None:
    given = ticket(alice)
    for changed in (
        given.replace("job-1", "job-2"),
        given.replace("!al:ice!", "!bob!"),
        given.replace("1000.", "2000."),
        f"{given}!issuer",
        cookie("al:ice", digest(alice.token), 1_000),
    ):
        assert changed != given
        assert alice.identity(0, changed) is None
    assert alice.identity(0, cookie=f"{COOKIE}={given}") is None


def test_the_header_beats_the_ticket_and_the_ticket_the_cookie(alice: Alice) -> None:
    good = f"{COOKIE}={cookie('al:ice', digest(alice.token), 1_000)}"
    assert alice.who(0, ticket(alice), authorization=f"Bearer {alice.token}") == "al:ice by token"
    assert alice.who(0, ticket(alice), authorization="Bearer wrong") is None
    assert alice.who(0, ticket(alice), cookie=good) == "al:ice by ticket"
    assert alice.who(0, "wrong", cookie=good) is None


def test_a_credential_holds_as_long_as_the_file_says_so(alice: Alice) -> None:
    found = alice.identity(authorization=f"Bearer {alice.token}")
    assert found is not None
    assert holds(found, alice.by.users, 0)
    alice.path.write_text(alice.path.read_text().replace('"subscriber"', '"executor"'))
    assert not holds(found, alice.by.users, 0)
    alice.path.write_text(alice.path.read_text().replace('"executor"', '"admin"'))
    assert holds(found, alice.by.users, 0)
    remove_user(alice.path, "al:ice")
    assert not holds(found, alice.by.users, 0)


def test_the_issuers_word_holds_until_it_expires(alice: Alice) -> None:
    found = Identity("carol", ("subscriber",), "jwt", "", 1_000)
    assert holds(found, alice.by.users, 999)
    assert not holds(found, alice.by.users, 1_000)


def test_a_ticket_reads_no_other_owner() -> None:
    scope = {"identity": Identity("a", ("subscriber",), "ticket", "", 9, "job-1", "bob")}
    assert read_owner(scope, QueryParams("")) == "bob"
    with pytest.raises(Problem, match="forbidden"):
        read_owner(scope, QueryParams("owner=a"))
