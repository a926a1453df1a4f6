"""Keys and JWTs of a made-up OpenID Connect issuer."""

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://issuer.example"
AUDIENCE = "jobcast"


class Mint:
    """One key: `token(...)` signs with it, `jwk` is its public half."""

    def __init__(self, kid: str | None = "k1", alg: str = "ES256", key: Any = None) -> None:
        self.kid = kid
        self.alg = alg
        self.key = key or _generate(alg)

    @property
    def jwk(self) -> dict[str, Any]:
        shown = jwt.get_algorithm_by_name(self.alg).to_jwk(self.key.public_key(), as_dict=True)
        return {**shown, **({} if self.kid is None else {"kid": self.kid})}

    def token(self, user: str = "carol", *, ttl_s: float = 3600, **claims: Any) -> str:
        """Claims that are None are left out."""
        body = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user,
            "exp": int(time.time() + ttl_s),
            "roles": ["subscriber"],
            **claims,
        }
        kept = {name: value for name, value in body.items() if value is not None}
        headers = {} if self.kid is None else {"kid": self.kid}
        return jwt.encode(kept, self.key, self.alg, headers)


def key_set(*mints: Mint) -> bytes:
    return json.dumps({"keys": [mint.jwk for mint in mints]}).encode()


def _generate(alg: str) -> Any:
    match alg:
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ES384":
            return ec.generate_private_key(ec.SECP384R1())
        case "ES512":
            return ec.generate_private_key(ec.SECP521R1())
        case _:
            return rsa.generate_private_key(65537, 2048)
