"""Users and their tokens: `users.toml` (docs/protocol.md § 10).

Owns: reading, checking and editing that file. Promises: a change takes effect with the next
request; an error in a changed file is logged and the old users stay in force; an edit is atomic,
leaves other entries as they are written, and mode 0600. Never: stores, logs or prints a token, but
for the one print of a new one.
"""

import fcntl
import hashlib
import logging
import os
import re
import secrets
import stat
import tempfile
import tomllib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from jobcast.names import is_owner

Role = Literal["subscriber", "executor", "admin"]
ROLES: Final = ("subscriber", "executor", "admin")
GUEST: Final = frozenset({"guest"})
BLOCK: Final = re.compile(r"^(?=[ \t]*\[\[[ \t]*user[ \t]*\]\])", re.MULTILINE)
TOKENS: Final = re.compile(r"^([ \t]*token_sha256[ \t]*=[ \t]*)\[[^\]]*\]", re.MULTILINE)

log = logging.getLogger(__name__)


class BadUsersFile(ValueError):
    """The file cannot be used. One line: the file, the entry and field or line, what is wrong."""


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For clients that sign their requests."""

    api_key: str
    secret_key: str


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
    return _parse(path, text, reserved)


def _parse(path: Path, text: str, reserved: Collection[str]) -> list[User]:
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
    for number, user in enumerate(users):
        problem = _bad_name(user.name, reserved)
        if problem or user.name in names:
            return f"user[{number}].name: {problem or f'{user.name} stands there twice'}"
        own = {hexes.lower() for hexes in user.token_sha256}
        if own & digests:
            return f"user[{number}].token_sha256: a token of {user.name} is another user's too"
        names.add(user.name)
        digests |= own
    return None


def _bad_name(name: str, reserved: Collection[str]) -> str | None:
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

    def by_token(self, token: str) -> User | None:
        """Looks the hash up: how long that takes says nothing about tokens of 128 random bits."""
        self.refresh()
        return self._by_digest.get(digest(token))

    def by_name(self, name: str) -> User | None:
        self.refresh()
        return self._by_name.get(name)

    def all(self) -> list[User]:
        self.refresh()
        return list(self._by_name.values())

    def may_be_called(self, name: str) -> bool:
        """Whether a user, of the file or of an issuer, may have this name."""
        return _bad_name(name, self._reserved) is None

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
        self._by_digest = {hexes.lower(): user for user in users for hexes in user.token_sha256}
        self.generation += 1

    def _signature(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode


def add_user(path: Path, name: str, roles: Sequence[str], reserved: Collection[str] = GUEST) -> str:
    """Adds an entry, making the file if there is none, and returns the new user's token.

    Raises BadUsersFile, ValueError for a name or role that is not allowed or a name that is taken.
    """
    if unknown := [role for role in roles if role not in ROLES]:
        raise ValueError(f"{unknown[0]!r} is not a role: {', '.join(ROLES)}")
    if problem := _bad_name(name, reserved):
        raise ValueError(problem)
    token = secrets.token_urlsafe(32)
    listed = ", ".join(f'"{role}"' for role in dict.fromkeys(roles))
    block = f'[[user]]\nname = "{name}"\nroles = [{listed}]\ntoken_sha256 = ["{digest(token)}"]\n'
    with _editing(path, reserved) as blocks:
        if name in _names(blocks):
            raise ValueError(f"{name} is there already; user rotate gives a new token")
        blocks.append(block if blocks == [""] else f"\n{block}")
    return token


def remove_user(path: Path, name: str, reserved: Collection[str] = GUEST) -> None:
    """Raises BadUsersFile, ValueError for a name that is not there."""
    with _editing(path, reserved) as blocks:
        del blocks[_place(blocks, name)]


def rotate_token(path: Path, name: str, reserved: Collection[str] = GUEST) -> str:
    """A new token in place of all that the user has; sessions end with the old ones."""
    token = secrets.token_urlsafe(32)
    with _editing(path, reserved) as blocks:
        place = _place(blocks, name)
        blocks[place], count = TOKENS.subn(rf'\1["{digest(token)}"]', blocks[place])
        if count != 1:
            raise ValueError(f"the entry of {name} is not written in a way that can be edited")
    return token


def _names(blocks: Sequence[str]) -> list[str | None]:
    """The user of each block; the first holds what stands before the first entry."""
    parsed = [tomllib.loads(block).get("user", [{}])[0] for block in blocks]
    if parsed[0]:
        raise ValueError("the users are not written as [[user]] entries: edit the file by hand")
    return [entry.get("name") for entry in parsed]


def _place(blocks: Sequence[str], name: str) -> int:
    names = _names(blocks)
    if name not in names:
        raise ValueError(f"there is no user {name}")
    return names.index(name)


@contextmanager
def _editing(path: Path, reserved: Collection[str]) -> Iterator[list[str]]:
    """The file as blocks of text, one per entry; written when the caller is done with them."""
    path = path.resolve()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # Of two edits at once the second waits; a lock on the file itself would not outlive it.
        fcntl.flock(folder, fcntl.LOCK_EX)
        if path.exists():
            load(path, reserved)
        blocks = BLOCK.split(path.read_text()) if path.exists() else [""]
        yield blocks
        text = "".join(blocks)
        _parse(path, text, reserved)
        _write(path, text)
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            if path.exists():  # an administrator's edit leaves the file to the service's account
                with suppress(PermissionError):
                    os.fchown(file.fileno(), path.stat().st_uid, path.stat().st_gid)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
