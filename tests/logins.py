"""Users of the end-to-end tests, with tokens that the tests know."""

import hashlib
import secrets
import uuid
from pathlib import Path
from typing import NamedTuple

POOL = 1_000  # made beforehand: the tests do not depend on the file being read again


class Login(NamedTuple):
    name: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class Logins:
    """`admin`, `executor`, `alice` and `bob` (subscribers), and fresh subscribers."""

    def __init__(self, users_file: Path) -> None:
        self.users_file = users_file
        self.admin = _login("admin")
        self.executor = _login("executor")
        self.alice = _login("alice")
        self.bob = _login("bob")
        self._fresh = [_login(f"owner-{uuid.uuid4().hex[:12]}") for _ in range(POOL)]
        subscribers = [self.alice, self.bob, *self._fresh]
        entries = [_entry(self.admin, "admin"), _entry(self.executor, "executor")]
        entries += [_entry(login, "subscriber") for login in subscribers]
        users_file.touch(mode=0o600)
        users_file.write_text("\n".join(entries))

    def fresh_subscriber(self) -> Login:
        return self._fresh.pop()


def _login(name: str) -> Login:
    return Login(name, secrets.token_urlsafe(32))


def _entry(login: Login, role: str) -> str:
    digest = hashlib.sha256(login.token.encode()).hexdigest()
    return f'[[user]]\nname = "{login.name}"\nroles = ["{role}"]\ntoken_sha256 = ["{digest}"]\n'
