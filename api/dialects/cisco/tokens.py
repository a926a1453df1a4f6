"""Who a call is by: the token of `login`, or a user's own token or JWT, wherever either stands.

Owns what the token of `login` is sealed for: it is good on every replica, for at most 12 h, and
until the token that opened it is rotated out; it opens no other door. The more explicit credential
counts alone: the call's `token`, else the `Authorization` of the request.
"""

from typing import Final

import msgspec
from msgspec import Struct

from api.facility import Facility
from api.identity import Identity
from api.problems import Problem, unauthorized
from api.session import Purposes
from jobcast.reasons import explain

PURPOSES: Final = Purposes(b"jobcast clm token 1", b"jobcast clm token of an issuer's user 1")
BEARER: Final = "bearer"


class Given(Struct):
    """A UserToken, as it comes back."""

    token: str = ""
    username: str | None = None


async def by_header(facility: Facility, authorization: str | None) -> Identity | None:
    """None where there is none. Raises Problem `unauthorized`, CannotTell."""
    if authorization is None:
        return None
    scheme, _, value = authorization.partition(" ")
    found = None
    if scheme.lower() == BEARER:
        found = await _found(facility, value.strip(), None)
    if found is None:
        raise unauthorized()
    return found


async def by_call(facility: Facility, token: object, bearer: Identity | None) -> Identity:
    """Raises Problem, CannotTell."""
    try:
        given = msgspec.convert(token, str | Given | None)
    except msgspec.ValidationError as error:
        raise Problem("invalid-parameter", explain(error, "token")[1]) from None
    if isinstance(given, str) or given is None:
        given = Given(given or "")
    found = await _found(facility, given.token, given.username) if given.token else bearer
    if found is None or given.username not in {None, "", found.user}:
        raise unauthorized()
    return found


async def _found(facility: Facility, token: str, name: str | None) -> Identity | None:
    return facility.in_session(token, PURPOSES) or await facility.identify(name or None, token)
