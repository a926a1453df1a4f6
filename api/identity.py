"""Who asks, by what, and what that allows.

Owns the ways in which a credential becomes an `Identity`: Bearer and Basic with a token of the
users file or with a JWT of the issuer, the session cookie, a ticket in the URL. Promises: the most
explicit credential counts alone (header, then ticket, then cookie), and no good one rescues a bad
one. Where a user of the issuer has the name of one in the file they are the same owner, and each
credential brings its own roles: the claim's, or the file's. Never: asks the network, logs a
credential.
"""

import base64
from collections.abc import Collection
from typing import Final, Literal

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.requests import cookie_parser
from starlette.types import Scope

from api import seal, session
from api.issuer import Issuer
from api.problems import Problem, invalid
from api.secret import Secret
from api.session import BROWSER, COOKIE, SESSION_S, Purposes
from api.ticket import right
from jobcast.names import is_owner
from notifier.users import User, Users, digest

FOLLOWS: Final = "subscriber"  # the role that a ticket lends
REPORTS: Final = "executor"


class Identity(msgspec.Struct, frozen=True):
    """Who asks, and by what.

    `token_sha256`: hash of the token (or secret key) behind the credential, empty for an issuer's
    user.
    `expires_at`: seconds since 1970, None for a credential that does not expire by itself.
    `job`, `owner`: the one job that a ticket opens, and whose it is; None for all else.
    `session`: by what a logon session (`api.logon`) is told from the user's others.
    """

    user: str
    roles: Collection[str]
    by: Literal["token", "jwt", "cookie", "ticket", "key", "session"]
    token_sha256: str
    expires_at: float | None = None
    job: str | None = None
    owner: str | None = None
    session: str | None = None

    def has(self, role: str) -> bool:
        return role in self.roles or "admin" in self.roles


class Credentials(msgspec.Struct, frozen=True):
    """All by which somebody can be known. Without an issuer no JWT is read."""

    users: Users
    secret: Secret
    issuer: Issuer | None = None


def identity_of(scope: Scope) -> Identity:
    identity: Identity = scope["identity"]
    return identity


def require(scope: Scope, role: str) -> Identity:
    """Raises Problem `forbidden`. An admin has every role."""
    identity = identity_of(scope)
    if not identity.has(role):
        raise Problem("forbidden", f"the role {role} is wanted")
    return identity


def read_owner(scope: Scope, query: QueryParams) -> str:
    """For whom one acts: oneself, or as an admin `owner=NAME`. Raises Problem."""
    identity = require(scope, FOLLOWS)
    own = identity.owner or identity.user
    owner = query.get("owner", own)
    if owner == own:
        return owner
    if "admin" not in identity.roles:
        raise Problem("forbidden", "owner: the role admin is wanted to act for another owner")
    if not is_owner(owner):
        raise invalid("owner", "the name of an owner")
    return owner


def reported_owner(scope: Scope, query: QueryParams) -> str:
    """Whose job is reported on: an executor says `owner=`, all others act as elsewhere.

    Raises Problem.
    """
    owner = query.get("owner")
    if owner is None or not identity_of(scope).has(REPORTS):
        return read_owner(scope, query)
    if not is_owner(owner):
        raise invalid("owner", "the name of an owner")
    return owner


def may_read(scope: Scope, owner: str) -> bool:
    """Whether one may see the owner's jobs, and not only report on them."""
    identity = identity_of(scope)
    own = identity.has(FOLLOWS) and owner == (identity.owner or identity.user)
    return own or "admin" in identity.roles


def authenticate(
    headers: Headers, ticket: str | None, by: Credentials, now: float
) -> Identity | None:
    """`now` in seconds since 1970. Raises CannotTell."""
    authorization = headers.get("authorization")
    if authorization is not None:
        return _by_header(authorization, by, now)
    if ticket is not None:
        return _by_ticket(ticket, by, now)
    value = cookie_parser(headers.get("cookie", "")).get(COOKIE)
    return None if value is None else by_session(value, by, now)


def by_password(name: str, password: str, by: Credentials, now: float) -> Identity | None:
    """The user of this name, by a token or JWT as password. Raises CannotTell."""
    identity = by_token(password, by, now)
    return identity if identity is not None and identity.user == name else None


def holds(identity: Identity, users: Users, now: float) -> bool:
    """Whether what opened the door would open it still: not expired, the token not rotated out, the
    user neither removed nor without a role that they came with."""
    if identity.expires_at is not None and identity.expires_at <= now:
        return False
    if not identity.token_sha256:
        return True  # the issuer's word counts until it expires
    user = users.by_name(identity.user)
    if user is None or identity.token_sha256 not in (*_hashes(user), *_hashes_of_keys(user)):
        return False
    lent = {"admin"} if identity.owner not in {None, identity.user} else set()
    return all(role in user.roles or "admin" in user.roles for role in {*identity.roles, *lent})


def _by_header(authorization: str, by: Credentials, now: float) -> Identity | None:
    scheme, _, credential = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return by_token(credential.strip(), by, now)
        case "basic":
            return _by_basic(credential.strip(), by, now)
        case _:
            return None


def by_token(token: str, by: Credentials, now: float) -> Identity | None:
    """The user whose token or JWT this is. Raises CannotTell."""
    token_sha256 = digest(token)
    user = by.users.by_digest(token_sha256)
    if user is not None:
        return Identity(user.name, user.roles, "token", token_sha256)
    claims = by.issuer.claims(token, now) if by.issuer is not None else None
    if claims is None:
        return None
    return Identity(claims.user, claims.roles, "jwt", "", claims.expires_at)


def by_keys(user: User) -> Identity:
    """The user whose `cloudstack.secret_key` has signed the request."""
    (key,) = _hashes_of_keys(user)
    return Identity(user.name, user.roles, "key", key)


def _by_basic(credential: str, by: Credentials, now: float) -> Identity | None:
    for name, token in basic_logins(credential):
        identity = by_password(name, token, by, now)
        if identity is not None:
            return identity
    return None


def basic_logins(credential: str) -> list[tuple[str, str]]:
    """The names and passwords that the credential of HTTP Basic may stand for."""
    try:
        text = base64.b64decode(credential, validate=True).decode()
    except ValueError:
        return []
    # A name may hold colons, against RFC 7617, and a token made by hand may as well.
    return [(name, token) for name, _, token in (text.rpartition(":"), text.partition(":"))]


def session_expiry(identity: Identity, now: float) -> int:
    """When a session that is opened now ends: not after the credential that opens it."""
    return int(min(now + SESSION_S, identity.expires_at or float("inf")))


def session_of(
    identity: Identity, secret: Secret, expires: int, purposes: Purposes = BROWSER
) -> str:
    """A session of the user, as `by_session` knows it. Raises CannotTell."""
    user, hexes = identity.user, identity.token_sha256
    if hexes:
        return session.cookie(user, hexes, expires, purposes.own)
    key = secret.value
    return session.issued_cookie(user, identity.roles, key, expires, purposes.issued)


def by_session(
    value: str, by: Credentials, now: float, purposes: Purposes = BROWSER
) -> Identity | None:
    """The user of a session that was opened for the same purposes. Raises CannotTell."""
    sealed = seal.opened(value, now)
    if sealed is None:
        return None
    if session.is_issued(sealed):
        if by.issuer is None or not sealed.made_with(by.secret.value, purposes.issued):
            return None
        name, roles = session.issued(sealed)
        return Identity(name, roles, "cookie", "", sealed.expires)
    user = by.users.by_name(sealed.payload)
    key = sealed_by(sealed, user, purposes.own)
    if user is None or key is None:
        return None
    return Identity(user.name, user.roles, "cookie", key, sealed.expires)


def _by_ticket(value: str, by: Credentials, now: float) -> Identity | None:
    sealed = seal.opened(value, now)
    said = right(sealed) if sealed is not None else None
    if sealed is None or said is None:
        return None
    key: str | None = ""
    if said.issued:
        if by.issuer is None or not sealed.made_with(by.secret.value, said.purpose):
            return None
    else:
        key = sealed_by(sealed, by.users.by_name(said.maker), said.purpose)
    if key is None:
        return None
    identity = Identity(said.maker, (FOLLOWS,), "ticket", key, sealed.expires, said.job, said.owner)
    return identity if holds(identity, by.users, now) else None


def sealed_by(sealed: seal.Sealed, user: User | None, purpose: bytes) -> str | None:
    """The hash, out of the user's own, that has sealed this value, or None if none has."""
    for hexes in _hashes(user) if user is not None else ():
        if sealed.made_with(bytes.fromhex(hexes), purpose):
            return hexes
    return None


def _hashes_of_keys(user: User) -> list[str]:
    """Of the one secret key, if there is one. It opens the door and seals nothing."""
    return [] if user.cloudstack is None else [digest(user.cloudstack.secret_key)]


def _hashes(user: User) -> list[str]:
    return [hexes.lower() for hexes in user.token_sha256]
