"""The session cookie of browsers: `<expiry>.<mac>.<user>`, valid on every replica without state.

The MAC is keyed with the hash of the token that opened the session. So nothing but the users file
has to be shared, a restart changes nothing, and rotating the token ends its sessions.
"""

import hmac
from collections.abc import Sequence
from typing import Final

COOKIE: Final = "jobcast_session"
SESSION_S: Final = 12 * 3600
DIGITS_MAX: Final = 15
PURPOSE: Final = b"jobcast session 1"  # the same key must never sign anything else alike


def seal(user: str, token_sha256: str, expires: int) -> str:
    """`expires` in seconds since 1970."""
    return f"{expires}.{_mac(user, token_sha256, expires)}.{user}"


def user_of(value: str) -> str:
    """Whom the cookie claims to be of; nothing is checked yet."""
    return value.split(".", 2)[-1]


def sealed_by(value: str, hashes: Sequence[str], now: float) -> str | None:
    """The hash, out of the user's own, that has sealed this value, or None if none has."""
    expiry, _, rest = value.partition(".")
    mac, _, user = rest.partition(".")
    if not (expiry.isascii() and expiry.isdigit() and len(expiry) <= DIGITS_MAX):
        return None
    if int(expiry) <= now:
        return None
    given = mac.encode()
    for token_sha256 in hashes:
        if hmac.compare_digest(given, _mac(user, token_sha256, int(expiry)).encode()):
            return token_sha256
    return None


def _mac(user: str, token_sha256: str, expires: int) -> str:
    message = b"\n".join((PURPOSE, str(expires).encode(), user.encode()))
    return hmac.digest(bytes.fromhex(token_sha256), message, "sha256").hex()
