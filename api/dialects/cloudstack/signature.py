"""Signed requests: whether this secret has signed these parameters, and whether that counts still.

Pure. Promises: accepts what a stock CloudStack accepts and what its documented clients send (both
orders of the names, both forms of `~`); compares in constant time.
"""

import base64
import hmac
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final
from urllib.parse import quote

SIGNATURE: Final = "signature"
EXPIRING: Final = "3"
"""The `signatureVersion` of requests that say until when they count."""


def is_signed(given: Mapping[str, str], signature: str, secret: str) -> bool:
    """`given`: all parameters of the request by their names as they were written."""
    signed = False
    for text in texts(given):
        made = base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha1"))
        signed |= hmac.compare_digest(made, signature.encode())
    return signed


def texts(given: Mapping[str, str]) -> Iterator[str]:
    """All that may have been signed: the server sorts the names as they are written, the guide
    lower-cases them first; Java writes `~` as `%7E`, most clients leave it as it is."""
    pairs = [
        (name, quote(value, safe="*")) for name, value in given.items() if name.lower() != SIGNATURE
    ]
    by_name, by_lower = sorted(pairs), sorted(pairs, key=lambda pair: pair[0].lower())
    for ordered in (by_name, by_lower):
        yield _text(ordered)
        yield _text([(name, value.replace("~", "%7E")) for name, value in ordered])


def _text(pairs: list[tuple[str, str]]) -> str:
    return "&".join(f"{name}={value}" for name, value in pairs).lower()


def has_expired(version: str | None, expires: str | None, now: float) -> bool:
    """Whether the request says that it counts no longer, or does not say what it has to. `now` in
    seconds since 1970."""
    if version != EXPIRING:
        return False
    until = moment(expires or "")
    return until is None or until < now


def moment(text: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 time with an offset, None for anything else."""
    try:
        read = datetime.fromisoformat(text)
        return None if read.tzinfo is None else read.timestamp()
    except (ValueError, OverflowError):
        return None
