"""Credentials for tests that come to the door without a server."""

from pathlib import Path
from typing import Any, cast

from redis.asyncio import Redis
from starlette.datastructures import Headers

from api.identity import Credentials, Identity, authenticate
from api.issuer import Issuer
from api.secret import Secret
from api.users import add_user
from notifier.users import Users


class FixedSecret(Secret):
    """One that Redis has told already."""

    def __init__(self, value: bytes | None = b"k" * 32) -> None:
        super().__init__(cast("Redis", None))
        self._value = value


def credentials(path: Path, issuer: Issuer | None = None) -> Credentials:
    if not path.exists():
        path.touch(mode=0o600)
    return Credentials(Users(path), FixedSecret(), issuer)


class Alice:
    """A user of the file at `path`, and who it is that brings a credential."""

    name = "al:ice"

    def __init__(self, path: Path, *roles: str) -> None:
        self.path = path
        self.token = add_user(path, self.name, roles or ["subscriber"])
        self.by = credentials(path)

    def who(self, now: float = 0, ticket: str | None = None, **headers: str) -> str | None:
        found = self.identity(now, ticket, **headers)
        return None if found is None else f"{found.user} by {found.by}"

    def identity(
        self, now: float = 0, ticket: str | None = None, **headers: Any
    ) -> Identity | None:
        return authenticate(Headers(headers), ticket, self.by, now)
