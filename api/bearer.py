"""JWT bearer tokens: what a good one says, decided from the token and the issuer's keys alone.

Owns the allow-list of algorithms and the claims that count: `iss`, `aud`, `exp` and `sub` must be
there and fit, `nbf` is respected, `roles` is a list of ours (others are ignored, none is no right).
The name of an algorithm comes from the token, but counts only if it is on the list and of the kind
of the key: neither `none` nor a public key used as an HMAC secret gets through. PyJWT does the
signatures.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from notifier.users import ROLES

LEEWAY_S: Final = 5.0
TOKEN_MAX: Final = 8 * 1024
KEYS_MAX: Final = 100
RSA_BITS_MIN: Final = 2048
RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
CURVES: Final[Mapping[str, frozenset[str]]] = {
    "secp256r1": frozenset({"ES256"}),
    "secp384r1": frozenset({"ES384"}),
    "secp521r1": frozenset({"ES512"}),
}
EDWARDS: Final = frozenset({"EdDSA"})
ALLOWED: Final = RSA.union(EDWARDS, *CURVES.values())

log = logging.getLogger(__name__)


class Terms(NamedTuple):
    """Who must have made a token, and for whom."""

    issuer: str
    audience: str


class Claims(NamedTuple):
    """What a good token says. `expires_at` in seconds since 1970, the leeway included."""

    user: str
    roles: tuple[str, ...]
    expires_at: float


class Key(NamedTuple):
    """A public key, and what it may be used with. `mark` is the same for the same key."""

    id: str | None
    public: Any
    algorithms: frozenset[str]
    mark: str


class Header(NamedTuple):
    """What a token says of its signature."""

    alg: str
    kid: str | None


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


def header_of(token: str) -> Header | None:
    """None for what is no token of a kind that is read here."""
    if token.count(".") != 2 or len(token) > TOKEN_MAX:  # noqa: PLR2004 - header.claims.signature
        return None
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        return None
    alg, kid = header.get("alg"), header.get("kid")
    if alg not in ALLOWED or not isinstance(kid, str | None):
        return None
    return Header(alg, kid)


def verified(token: str, header: Header, keys: Sequence[Key], terms: Terms) -> Claims | None:
    """A token without a `kid` is good only if the issuer has one key alone for its algorithm."""
    fitting = [key for key in keys if header.alg in key.algorithms]
    chosen = [key for key in fitting if header.kid in {None, key.id}]
    if len(chosen) != 1:
        return None
    try:
        claims = jwt.decode(
            token,
            chosen[0].public,
            algorithms=[header.alg],
            audience=terms.audience,
            issuer=terms.issuer,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
        return None
    return Claims(claims["sub"], _roles(claims.get("roles")), float(claims["exp"]) + LEEWAY_S)


def keys_of(body: bytes) -> list[Key]:
    """The keys of a JSON Web Key Set that can be used here; others are skipped.

    Raises ValueError for what is no key set, or holds none that can be used.
    """
    try:
        found = msgspec.json.decode(body, type=_KeySet).keys
    except msgspec.DecodeError as error:
        raise ValueError(f"no key set: {error}") from None
    keys = [key for key in map(_key, found[:KEYS_MAX]) if key is not None]
    if not keys:
        raise ValueError("no key that can be used for signatures")
    return keys


def _key(data: dict[str, Any]) -> Key | None:
    if data.get("use", "sig") != "sig" or data.get("kty") not in {"RSA", "EC", "OKP"}:
        return None
    if "d" in data:
        log.error("JOBCAST_JWT_JWKS: a private key stands there; it is not used")
        return None
    kid = data.get("kid")
    try:
        public = jwt.PyJWK(data).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    algorithms = _algorithms(public) & {data.get("alg", alg) for alg in ALLOWED}
    if not algorithms or not isinstance(kid, str | None):
        return None
    return Key(kid, public, algorithms, hashlib.sha256(msgspec.json.encode(data)).hexdigest())


def _algorithms(public: Any) -> frozenset[str]:
    match public:
        case rsa.RSAPublicKey(key_size=bits) if bits >= RSA_BITS_MIN:
            return RSA
        case ec.EllipticCurvePublicKey(curve=curve):
            return CURVES.get(curve.name, frozenset())
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return EDWARDS
        case _:
            return frozenset()


def _roles(claim: Any) -> tuple[str, ...]:
    listed = claim if isinstance(claim, list) else []
    return tuple(role for role in ROLES if role in listed)
