"""Editing `users.toml`, from the command line (docs/protocol.md § 10).

Promises: an edit is atomic, leaves other entries as they are written, and mode 0600. Never: stores
or logs a token, or logs a secret key; a new one is given to the caller once.
"""

import fcntl
import os
import re
import secrets
import tempfile
import tomllib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from notifier.users import GUEST, ROLES, Keys, bad_name, digest, load, parse

BLOCK: Final = re.compile(r"^(?=[ \t]*\[\[[ \t]*user[ \t]*\]\])", re.MULTILINE)
TOKENS: Final = re.compile(r"^([ \t]*token_sha256[ \t]*=[ \t]*)\[[^\]]*\]", re.MULTILINE)
KEYS: Final = re.compile(r"^[ \t]*cloudstack[ \t]*=[ \t]*\{[^}\n]*\}[^\n]*(?:\n|\Z)", re.MULTILINE)


def new_keys() -> Keys:
    return Keys(secrets.token_urlsafe(48), secrets.token_urlsafe(48))


def add_user(
    path: Path,
    name: str,
    roles: Sequence[str],
    reserved: Collection[str] = GUEST,
    keys: Keys | None = None,
) -> str:
    """Adds an entry, making the file if there is none, and returns the new user's token.

    Raises BadUsersFile, ValueError for a name or role that is not allowed or a name that is taken.
    """
    if unknown := [role for role in roles if role not in ROLES]:
        raise ValueError(f"{unknown[0]!r} is not a role: {', '.join(ROLES)}")
    if problem := bad_name(name, reserved):
        raise ValueError(problem)
    token = secrets.token_urlsafe(32)
    listed = ", ".join(f'"{role}"' for role in dict.fromkeys(roles))
    block = (
        f'[[user]]\nname = "{name}"\nroles = [{listed}]\n'
        f'{_line(keys)}token_sha256 = ["{digest(token)}"]\n'
    )
    with _editing(path, reserved) as blocks:
        if name in _names(blocks):
            raise ValueError(f"{name} is there already; user rotate gives a new token")
        blocks.append(block if blocks == [""] else f"\n{block}")
    return token


def remove_user(path: Path, name: str, reserved: Collection[str] = GUEST) -> None:
    """Raises BadUsersFile, ValueError for a name that is not there."""
    with _editing(path, reserved) as blocks:
        del blocks[_place(blocks, name)]


def rotate_token(
    path: Path, name: str, reserved: Collection[str] = GUEST, keys: Keys | None = None
) -> str:
    """A new token in place of all that the user has; sessions end with the old ones. The user's
    keys go too; `keys` take their place."""
    token = secrets.token_urlsafe(32)
    with _editing(path, reserved) as blocks:
        place = _place(blocks, name)
        block = KEYS.sub("", blocks[place])
        block, count = TOKENS.subn(rf'{_line(keys)}\1["{digest(token)}"]', block)
        if count != 1 or _keys(block) != keys:
            raise ValueError(f"the entry of {name} is not written in a way that can be edited")
        blocks[place] = block
    return token


def _line(keys: Keys | None) -> str:
    if keys is None:
        return ""
    return f'cloudstack = {{ api_key = "{keys.api_key}", secret_key = "{keys.secret_key}" }}\n'


def _keys(block: str) -> Keys | None:
    entry: Any = tomllib.loads(block)["user"][0]
    return msgspec.convert(entry.get("cloudstack"), Keys | None)


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
        parse(path, text, reserved)
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
