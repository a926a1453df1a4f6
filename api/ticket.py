"""Tickets: the right to read and follow one job for some minutes, fit for a URL.

A ticket says `<job>!<owner>!<maker>`, with a last part `!issuer` where the maker is an issuer's
user. Its key is, as that of a session, the hash of the maker's token or the service's own: a ticket
ends with the token behind it.
"""

from typing import Final, NamedTuple

from api import seal

TTL_MAX_S: Final = 900
PURPOSE: Final = b"jobcast ticket 1"
ISSUED_PURPOSE: Final = b"jobcast ticket of an issuer's user 1"
ISSUER: Final = "issuer"
PARTS: Final = 3


class Right(NamedTuple):
    """What a ticket says."""

    job: str
    owner: str
    maker: str
    issued: bool

    @property
    def purpose(self) -> bytes:
        return ISSUED_PURPOSE if self.issued else PURPOSE

    def ticket(self, key: bytes, expires: int) -> str:
        """`expires` in seconds since 1970."""
        parts = [self.job, self.owner, self.maker, *([ISSUER] if self.issued else [])]
        return seal.seal("!".join(parts), key, self.purpose, expires)


def right(value: seal.Sealed) -> Right | None:
    """What the ticket says; whether its seal is good is still to be asked."""
    job, owner, maker, *rest = [*value.payload.split("!"), "", ""][: max(PARTS, 5)]
    if not (job and owner and maker):
        return None
    return Right(job, owner, maker, ISSUER in rest)
