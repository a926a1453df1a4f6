"""A users file, an issuer's key set, and every credential by which one user comes in."""

import hashlib
import json
import secrets
import time
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bench.asking import request
from deploy.process import LOOPBACK

USER: Final = "bench"
JOB: Final = "job-1"
PATH: Final = f"/v1/jobs/{JOB}"
BEARER: Final = "bearer token"
ISSUER: Final = "https://issuer.example"
AUDIENCE: Final = "jobcast"
TTL_S: Final = 7_200


class Mint(msgspec.Struct, frozen=True):
    """Makes JWTs by one algorithm, with one key made in the run."""

    alg: str
    key: Any

    @classmethod
    def made(cls, alg: str) -> "Mint":
        if alg == "ES256":
            return cls(alg, ec.generate_private_key(ec.SECP256R1()))
        return cls(alg, rsa.generate_private_key(65537, 2048))

    @property
    def jwk(self) -> dict[str, Any]:
        kind = jwt.algorithms.ECAlgorithm if self.alg == "ES256" else jwt.algorithms.RSAAlgorithm
        jwk: dict[str, Any] = kind.to_jwk(self.key.public_key(), as_dict=True)
        return jwk | {"kid": self.alg, "alg": self.alg, "use": "sig"}

    def token(self) -> str:
        """Another one each time."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": USER,
            "exp": int(time.time()) + TTL_S,
            "jti": secrets.token_hex(8),
            "roles": ["subscriber"],
        }
        return jwt.encode(claims, self.key, self.alg, {"kid": self.alg})


def write_users(path: Path, users: int) -> str:
    """A file of so many; answers the token of USER, who stands in its middle."""
    token = secrets.token_urlsafe(32)
    digest = hashlib.sha256(token.encode()).hexdigest()
    entries = [_entry(f"user-{number}", secrets.token_hex(32)) for number in range(users - 1)]
    entries.insert(users // 2, _entry(USER, digest))
    path.write_text("\n".join(entries))
    path.chmod(0o600)
    return token


def _entry(name: str, digest: str) -> str:
    return f'[[user]]\nname = "{name}"\nroles = ["subscriber"]\ntoken_sha256 = ["{digest}"]\n'


def write_keys(path: Path, *mints: Mint) -> dict[str, str]:
    """The settings with which the API knows the issuer."""
    path.write_text(json.dumps({"keys": [mint.jwk for mint in mints]}))
    return {
        "JOBCAST_JWT_ISSUER": ISSUER,
        "JOBCAST_JWT_AUDIENCE": AUDIENCE,
        "JOBCAST_JWT_JWKS": str(path),
    }


def bearer(path: str, token: str) -> bytes:
    return request(PATH, f"Authorization: Bearer {token}")


async def requests(port: int, token: str, mints: list[Mint]) -> dict[str, bytes]:
    """By the name of the credential, a GET of the job with it."""
    headers = {"Authorization": f"Bearer {token}"}
    url = f"http://{LOOPBACK}:{port}/v1"
    async with httpx.AsyncClient(headers=headers, trust_env=False) as client:
        session = await client.post(f"{url}/session")
        ticket = await client.post(f"{url}/tickets", json={"job": JOB, "ttl_s": 900})
    basic = b64encode(f"{USER}:{token}".encode()).decode()
    cookie = session.headers["set-cookie"].partition(";")[0]
    return {
        BEARER: bearer(PATH, token),
        "Basic": request(PATH, f"Authorization: Basic {basic}"),
        "session cookie": request(PATH, f"Cookie: {cookie}"),
        "ticket": request(f"{PATH}?ticket={ticket.json()['ticket']}"),
        **{f"JWT, {mint.alg}": bearer(PATH, mint.token()) for mint in mints},
    }
