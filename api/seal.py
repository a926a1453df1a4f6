"""Values that we hand out and recognise when they come back: `<expiry>.<mac>.<payload>`.

Owns their form; what a payload says is the business of `api.session` and `api.ticket`. Promises:
one key never makes the same MAC for two purposes, and MACs are compared in constant time.
"""

import hmac
from typing import Final, NamedTuple

DIGITS_MAX: Final = 15


class Sealed(NamedTuple):
    """A value taken apart; whether its seal is good is still to be asked."""

    expires: int
    mac: str
    payload: str

    def made_with(self, key: bytes, purpose: bytes) -> bool:
        given, wanted = self.mac.encode(), _mac(key, purpose, self.expires, self.payload).encode()
        return hmac.compare_digest(given, wanted)


def seal(payload: str, key: bytes, purpose: bytes, expires: int) -> str:
    """`expires` in seconds since 1970."""
    return f"{expires}.{_mac(key, purpose, expires, payload)}.{payload}"


def opened(value: str, now: float) -> Sealed | None:
    """None for what has not our form, or has expired."""
    expiry, _, rest = value.partition(".")
    mac, _, payload = rest.partition(".")
    if not (expiry.isascii() and expiry.isdigit() and len(expiry) <= DIGITS_MAX):
        return None
    return Sealed(int(expiry), mac, payload) if int(expiry) > now else None


def _mac(key: bytes, purpose: bytes, expires: int, payload: str) -> str:
    message = b"\n".join((purpose, str(expires).encode(), payload.encode("utf-8", "replace")))
    return hmac.digest(key, message, "sha256").hex()
