"""Everybody who tries: their names, roles and credentials, good and bad ones."""

import base64
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jwt
import msgspec

from api.session import COOKIE, cookie
from api.ticket import Right
from api.users import add_user, new_keys
from notifier.users import digest
from tests.mint import AUDIENCE, ISSUER, Mint

ROLES: Final = {
    "alice": "subscriber",
    "bob": "subscriber",
    "a": "subscriber",
    "a.b": "subscriber",
    "A": "subscriber",
    "alice.x": "subscriber",
    "executor": "executor",
    "admin": "admin",
}
"""Users of the file."""

ISSUED: Final = {"carol": "subscriber", "mover": "executor", "chief": "admin"}
"""Users of the issuer, who stand in no file."""

PAIRS: Final = {
    "subscriber": [
        ("alice", "bob"),
        ("bob", "alice"),
        ("a", "a.b"),
        ("a.b", "a"),
        ("A", "a"),
        ("a", "A"),
        ("alice", "alice.x"),
        ("alice.x", "alice"),
        ("carol", "alice"),
        ("alice", "carol"),
    ],
    "executor": [("executor", "alice"), ("mover", "alice")],
    "admin": [("admin", "alice"), ("chief", "alice")],
}
"""Who asks, and whose job is the foreign one."""

STRANGER: Final = "nobody-at-all"
"""The owner of an unknown job, where one has to be named."""


class Refused(msgspec.Struct, frozen=True):
    """A way of being nobody. `query` stands in the URL."""

    label: str
    headers: dict[str, str] = {}
    query: str = ""


class Cast:
    """`credentials`: token or JWT of each. `keys`: those of users of the file, who have a token
    as well."""

    def __init__(self, users_file: Path, mint: Mint) -> None:
        self.mint = mint
        self.users_file = users_file
        self.keys = {name: new_keys() for name in ROLES}
        self.credentials = {
            name: add_user(users_file, name, [role], keys=self.keys[name])
            for name, role in ROLES.items()
        }
        for name, role in ISSUED.items():
            self.credentials[name] = mint.token(name, ttl_s=3600, roles=[role])

    def basic(self, name: str, password: str) -> dict[str, str]:
        text = base64.b64encode(f"{name}:{password}".encode()).decode()
        return {"Authorization": f"Basic {text}"}

    def passwords(self) -> Iterator[tuple[str, str, str]]:
        """Logins that are none, over AMQP, STOMP and HTTP Basic: label, name, password."""
        yield "nothing", "", ""
        yield "the account that RabbitMQ comes with", "guest", "guest"
        yield "the service, a wrong password", "jobcast", "wrong"
        yield "a wrong token", "alice", secrets.token_urlsafe(32)
        yield "no token", "alice", ""
        yield "another's token", "alice", self.credentials["bob"]
        yield "another's JWT", "alice", self.credentials["carol"]
        yield "a name in other letters", "Alice", self.credentials["alice"]
        for label, token in self.tokens():
            yield label, "carol", token

    def tokens(self) -> Iterator[tuple[str, str]]:
        """JWTs of carol that are not good."""
        mint = self.mint
        yield "an expired JWT", mint.token("carol", ttl_s=-60)
        yield "a JWT for others", mint.token("carol", aud="others")
        yield "a JWT from others", mint.token("carol", iss="https://others.example")
        yield "a JWT by a wrong key", Mint(mint.kid).token("carol")
        claims: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "roles": ["admin"]}
        claims |= {"sub": "carol", "exp": int(time.time()) + 60}
        yield "an unsigned JWT", jwt.encode(claims, "", "none", {"kid": mint.kid})
        yield "a JWT of the service's name", mint.token("jobcast", roles=["admin"])

    def refused(self, job: str) -> Iterator[Refused]:
        """Requests that are nobody's; `job` is what the tickets are for, a job of alice."""
        yield Refused("anonymous")
        yield Refused("a wrong token", {"Authorization": f"Bearer {secrets.token_urlsafe(32)}"})
        for label, token in self.tokens():
            yield Refused(label, {"Authorization": f"Bearer {token}"})
        for label, name, password in self.passwords():
            yield Refused(f"Basic, {label}", self.basic(name, password))
        yield Refused("a token in the URL", query=f"access_token={self.credentials['alice']}")
        key, good = digest(self.credentials["alice"]), int(time.time()) + 600
        past = good - 1200
        for label, value in {
            "an expired cookie": cookie("alice", key, past),
            "a cookie by another's key": cookie("alice", digest(self.credentials["bob"]), good),
            "a cookie for another": cookie("alice", key, good).replace(".alice", ".bob"),
            "an expired cookie made longer": _later(cookie("alice", key, past), good),
        }.items():
            yield Refused(label, {"Cookie": f"{COOKIE}={value}"})
        own = Right(job, "alice", "alice", issued=False)
        ticket = own.ticket(bytes.fromhex(key), good)
        for label, value in {
            "an expired ticket": own.ticket(bytes.fromhex(key), past),
            "an expired ticket made longer": _later(own.ticket(bytes.fromhex(key), past), good),
            "a ticket by another's key": own.ticket(
                bytes.fromhex(digest(self.credentials["bob"])), good
            ),
            "a ticket changed to another's job": ticket.replace("!alice!alice", "!bob!alice"),
            "a ticket changed to another maker": ticket.replace("!alice!alice", "!alice!bob"),
            "a ticket changed to an issuer's": f"{ticket}!issuer",
        }.items():
            yield Refused(label, query=f"ticket={value}")
        # The most explicit credential counts alone.
        cookies = {"Cookie": f"{COOKIE}={cookie('alice', key, good)}"}
        wrong = {"Authorization": "Bearer wrong"}
        yield Refused("a wrong token beside a good cookie", wrong | cookies)
        yield Refused("a wrong token beside a good ticket", wrong, f"ticket={ticket}")


def _later(value: str, expires: int) -> str:
    return f"{expires}.{value.partition('.')[2]}"
