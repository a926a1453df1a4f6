"""Users and their tokens: reading `users.toml` (docs/protocol.md § 10).

Owns: reading and checking that file; api/users.py edits it. Promises: a change takes effect with
the next request; an error in a changed file is logged and the old users stay in force. Never:
stores, logs or prints a token.
"""

import hashlib
import logging
import os
import stat
import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from jobcast.names import is_owner

Role = Literal["subscriber", "executor", "admin"]
ROLES: Final = ("subscriber", "executor", "admin")
GUEST: Final = frozenset({"guest"})

log = logging.getLogger(__name__)


class BadUsersFile(ValueError):
    """The file cannot be used. One line: the file, the entry and field or line, what is wrong."""


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For clients that sign their requests."""

    api_key: Annotated[str, msgspec.Meta(min_length=1)]
    secret_key: Annotated[str, msgspec.Meta(min_length=22)]  # 128 bits in base64


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the file. `token_sha256`: hex of SHA-256, one for each token in force."""

    name: str
    roles: list[Role]
    token_sha256: list[Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F]{64}\Z")]]
    cloudstack: Keys | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    user: list[User] = []


def digest(token: str) -> str:
    """Hex of SHA-256 over the token, as the file holds it."""
    return hashlib.sha256(token.encode()).hexdigest()


def load(path: Path, reserved: Collection[str] = GUEST) -> list[User]:
    """Raises BadUsersFile; names in `reserved` are refused."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read().decode()
    except OSError as error:
        raise BadUsersFile(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadUsersFile(f"{path}: not UTF-8") from None
    if mode & 0o077:
        raise BadUsersFile(f"{path}: mode {mode:04o} opens it to others; run: chmod 600 {path}")
    return parse(path, text, reserved)


def parse(path: Path, text: str, reserved: Collection[str]) -> list[User]:
    """The users of a file's text. Raises BadUsersFile."""
    try:
        users = msgspec.convert(tomllib.loads(text), _File).user
    except tomllib.TOMLDecodeError as error:
        raise BadUsersFile(f"{path}: {error}") from None
    except msgspec.ValidationError as error:
        raise BadUsersFile(f"{path}: {error}") from None
    problem = _problem(users, reserved)
    if problem:
        raise BadUsersFile(f"{path}: {problem}")
    return users


def _problem(users: Sequence[User], reserved: Collection[str]) -> str | None:
    names: set[str] = set()
    digests: set[str] = set()
    keys: set[str] = set()
    for number, user in enumerate(users):
        problem = bad_name(user.name, reserved)
        if problem or user.name in names:
            return f"user[{number}].name: {problem or f'{user.name} stands there twice'}"
        own = {hexes.lower() for hexes in user.token_sha256}
        if own & digests:
            return f"user[{number}].token_sha256: a token of {user.name} is another user's too"
        if user.cloudstack is not None and user.cloudstack.api_key in keys:
            return f"user[{number}].cloudstack.api_key: that of {user.name} is another user's too"
        keys |= {user.cloudstack.api_key} if user.cloudstack is not None else set()
        names.add(user.name)
        digests |= own
    return None


def bad_name(name: str, reserved: Collection[str]) -> str | None:
    """Why nobody may be called that, or None."""
    if not is_owner(name):
        return f"{name!r} is not 1 to 64 (percent-encoded) of A-Z a-z 0-9 . _ : ~ @ -"
    return f"{name} is a reserved name" if name in GUEST or name in reserved else None


class Users:
    """The users in force. Raises BadUsersFile when made from a file that cannot be used.

    `generation` rises whenever they change: who holds on to a user asks again when it has.
    """

    def __init__(self, path: Path, reserved: Collection[str] = GUEST) -> None:
        self.generation = 0
        self._path = path
        self._reserved = frozenset(reserved)
        self._seen = self._signature()
        self._keep(load(path, reserved))

    def by_digest(self, token_sha256: str) -> User | None:
        """Looks the hash up: how long that takes says nothing about tokens of 128 random bits."""
        self.refresh()
        return self._by_digest.get(token_sha256)

    def by_name(self, name: str) -> User | None:
        self.refresh()
        return self._by_name.get(name)

    def by_api_key(self, api_key: str) -> User | None:
        """The user with this `cloudstack.api_key`; it is a name, the secret is another."""
        self.refresh()
        return self._by_api_key.get(api_key)

    def all(self) -> list[User]:
        self.refresh()
        return list(self._by_name.values())

    def may_be_called(self, name: str) -> bool:
        """Whether a user, of the file or of an issuer, may have this name."""
        return bad_name(name, self._reserved) is None

    def refresh(self) -> None:
        """Reads the file again if it has changed; every question above does so too."""
        signature = self._signature()
        if signature == self._seen:
            return
        self._seen = signature
        try:
            self._keep(load(self._path, self._reserved))
        except BadUsersFile as error:
            log.error("the users before stay in force: %s", error)
        else:
            log.info("users read again from %s: %d", self._path, len(self._by_name))

    def _keep(self, users: Sequence[User]) -> None:
        self._by_name = {user.name: user for user in users}
        self._by_api_key = {user.cloudstack.api_key: user for user in users if user.cloudstack}
        self._by_digest = {hexes.lower(): user for user in users for hexes in user.token_sha256}
        self.generation += 1

    def _signature(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode


class Admins:
    """The names that the file gives the role admin: `name in admins`.

    While the file cannot be used (it is not there, say) nobody is one, which is logged once.
    """

    def __init__(self, path: Path, reserved: Collection[str] = GUEST) -> None:
        self._path = path
        self._reserved = frozenset(reserved)
        self._users: Users | None = None
        self._complained = False

    def __contains__(self, name: object) -> bool:
        try:
            self._users = self._users or Users(self._path, self._reserved)
        except BadUsersFile as error:
            if not self._complained:
                self._complained = True
                log.warning("nobody is taken for an admin over AMQP: %s", error)
            return False
        user = self._users.by_name(str(name))
        return user is not None and "admin" in user.roles
