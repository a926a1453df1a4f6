"""Sessions, valid on every replica without state: the cookie of browsers, the tokens of dialects.

Of a user of the users file it says `<user>`, and its key is the hash of the token that opened the
session: nothing but that file has to be shared, a restart changes nothing, and rotating the token
ends its sessions. Of an issuer's user it says `<roles>!<user>` and its key is the service's own
(`api.secret`): no replica has anything else of such a user.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

from api import seal

COOKIE: Final = "jobcast_session"
SESSION_S: Final = 12 * 3600
PURPOSE: Final = b"jobcast session 1"
ISSUED_PURPOSE: Final = b"jobcast session of an issuer's user 1"
MARK: Final = "!"  # in no name and no role


class Purposes(NamedTuple):
    """What the value is for: of a user of the users file, and of an issuer's user."""

    own: bytes
    issued: bytes


BROWSER: Final = Purposes(PURPOSE, ISSUED_PURPOSE)


def cookie(user: str, token_sha256: str, expires: int, purpose: bytes = PURPOSE) -> str:
    """`expires` in seconds since 1970."""
    return seal.seal(user, bytes.fromhex(token_sha256), purpose, expires)


def issued_cookie(
    user: str,
    roles: Collection[str],
    key: bytes,
    expires: int,
    purpose: bytes = ISSUED_PURPOSE,
) -> str:
    return seal.seal(f"{'+'.join(roles)}{MARK}{user}", key, purpose, expires)


def is_issued(value: seal.Sealed) -> bool:
    return MARK in value.payload


def issued(value: seal.Sealed) -> tuple[str, tuple[str, ...]]:
    """The user and the roles that an `issued_cookie` tells."""
    roles, _, user = value.payload.partition(MARK)
    return user, tuple(role for role in roles.split("+") if role)
