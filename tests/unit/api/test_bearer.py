import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from api.bearer import LEEWAY_S, Claims, Terms, header_of, keys_of, verified
from tests.mint import AUDIENCE, ISSUER, Mint, key_set

TERMS = Terms(ISSUER, AUDIENCE)
MINT = Mint()
RSA = Mint("rsa", "RS256")
KEYS = keys_of(key_set(MINT, RSA))


def read(token: str, keys: bytes | None = None) -> Claims | None:
    header = header_of(token)
    known = KEYS if keys is None else keys_of(keys)
    return None if header is None else verified(token, header, known, TERMS)


@pytest.mark.parametrize(
    "alg",
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"],
)
def test_every_allowed_algorithm_is_read(alg: str) -> None:
    key = RSA.key if alg[0] in "RP" else None
    mint = Mint("x", alg, key)
    claims = read(mint.token("carol", exp=2_000_000_000), key_set(mint, MINT))
    assert claims == Claims("carol", ("subscriber",), 2_000_000_000 + LEEWAY_S)


def pem(mint: Mint) -> bytes:
    kind, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    public: bytes = mint.key.public_key().public_bytes(kind, form)
    return public


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def hmac_with_the_public_key(alg: str) -> str:
    """What a careless reader takes for a signature: the public key as an HMAC secret."""
    head, claims = part({"alg": alg, "kid": "rsa"}), RSA.token().split(".")[1]
    signature = jwt.get_algorithm_by_name("HS256").sign(f"{head}.{claims}".encode(), pem(RSA))
    return f"{head}.{claims}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def signed_by_none(alg: str) -> str:
    return f"{part({'alg': alg, 'kid': 'k1'})}.{MINT.token().split('.')[1]}."


def tampered() -> str:
    head, claims, signature = MINT.token().split(".")
    body = json.loads(base64.urlsafe_b64decode(claims + "=="))
    return f"{head}.{part(body | {'roles': ['admin']})}.{signature}"


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("a.b.c", id="nonsense"),
        pytest.param("ü.ü.ü", id="not ASCII"),
        pytest.param("." * 2, id="dots"),
        pytest.param(MINT.token() + "x" * 9_000, id="too long"),
        pytest.param(signed_by_none("none"), id="none"),
        pytest.param(signed_by_none("None"), id="None"),
        pytest.param(signed_by_none("ES256"), id="no signature"),
        pytest.param(hmac_with_the_public_key("HS256"), id="HMAC with the public key"),
        pytest.param(hmac_with_the_public_key("RS256"), id="HMAC said to be RSA"),
        pytest.param(tampered(), id="tampered"),
        pytest.param(Mint().token(), id="another key under a known id"),
        pytest.param(Mint("other").token(), id="an unknown key"),
        pytest.param(Mint("rsa", "ES256", MINT.key).token(), id="another kind of key"),
        pytest.param(MINT.token(ttl_s=-LEEWAY_S - 2), id="expired"),
        pytest.param(MINT.token(exp=None), id="no exp"),
        pytest.param(MINT.token(exp="soon"), id="exp is no number"),
        pytest.param(MINT.token(exp=float("inf")), id="exp without an end"),
        pytest.param(MINT.token(nbf=int(time.time()) + 3600), id="not yet"),
        pytest.param(MINT.token(iss="https://other.example"), id="another issuer"),
        pytest.param(MINT.token(iss=None), id="no issuer"),
        pytest.param(MINT.token(aud="other"), id="another audience"),
        pytest.param(MINT.token(aud=None), id="no audience"),
        pytest.param(MINT.token(sub=None), id="nobody"),
    ],
)
def test_forged_and_foreign_tokens_are_nothing(token: str) -> None:
    assert read(token) is None


def test_clocks_may_differ_by_the_leeway() -> None:
    assert read(MINT.token(ttl_s=-LEEWAY_S + 2))
    assert read(MINT.token(nbf=int(time.time() + LEEWAY_S - 2)))


@pytest.mark.parametrize(
    ("claim", "roles"),
    [
        (["subscriber", "admin"], ("subscriber", "admin")),
        (["root", 7, None, ["admin"], "executor"], ("executor",)),
        ("admin", ()),
        ({"admin": True}, ()),
        (None, ()),
        ([], ()),
    ],
)
def test_roles_are_a_list_of_ours_and_others_are_no_right(
    claim: Any, roles: tuple[str, ...]
) -> None:
    claims = read(MINT.token(roles=claim))
    assert claims is not None
    assert claims.roles == roles


def test_one_of_several_audiences_is_enough() -> None:
    assert read(MINT.token(aud=["other", AUDIENCE]))


def test_a_token_that_names_no_key_counts_where_one_alone_can_be_meant() -> None:
    nameless = Mint(None, "ES256", MINT.key)
    assert read(nameless.token())
    assert read(nameless.token(), key_set(MINT, Mint("k2"))) is None


def test_a_key_is_used_with_the_algorithm_that_it_names_alone() -> None:
    shown = json.dumps({"keys": [{**RSA.jwk, "alg": "PS256"}]}).encode()
    assert read(Mint("rsa", "PS256", RSA.key).token(), shown)
    assert read(RSA.token(), shown) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>",
        b'{"keys":[]}',
        b'{"keys":[{}]}',
        b'{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"k1"}]}',
        b'{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}',
        json.dumps({"keys": [{**MINT.jwk, "use": "enc"}]}).encode(),
        json.dumps({"keys": [{**MINT.jwk, "d": "AA"}]}).encode(),
        key_set(Mint("small", "RS256", rsa.generate_private_key(65537, 1024))),  # noqa: S505 - to be refused
    ],
)
def test_what_is_no_key_for_signatures_is_not_taken(body: bytes) -> None:
    with pytest.raises(ValueError, match="no key"):
        keys_of(body)


def test_a_key_that_cannot_be_used_does_not_spoil_the_others() -> None:
    body = json.dumps({"keys": [{"kty": "oct", "k": "AA"}, {"kty": "new"}, MINT.jwk]}).encode()
    assert [key.id for key in keys_of(body)] == ["k1"]
