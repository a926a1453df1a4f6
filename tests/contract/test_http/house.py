"""Two API replicas whose users, issuer and Redis are the tests' own to change and to count on.

No notifier: what happens to jobs is put into Redis by `Lab`.
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from api.users import add_user
from deploy.redis import RedisNode
from deploy.stack import Stack
from tests.contract.test_http.reading import Reading
from tests.logins import Login
from tests.mint import Mint

ORIGIN = "https://pages.example"
WAITS = 3


class House:
    """`mint` is the issuer's key; `log` all that the replicas have written."""

    def __init__(self, stack: Stack, redis: RedisNode, users_file: Path, mint: Mint) -> None:
        self.stack = stack
        self.redis = redis
        self.users_file = users_file
        self.mint = mint

    @property
    def urls(self) -> list[str]:
        return self.stack.urls

    @property
    def log(self) -> str:
        return "".join(replica.log.read_text() for replica in self.stack.replicas)

    def user(self, *roles: str) -> Login:
        """A fresh user of the file."""
        name = f"owner-{uuid.uuid4().hex[:12]}"
        return Login(name, add_user(self.users_file, name, roles or ["subscriber"]))

    def issued(self, ttl_s: float = 600, **claims: Any) -> Login:
        """A fresh user of the issuer, whose token is a JWT."""
        name = f"owner-{uuid.uuid4().hex[:12]}"
        return Login(name, self.mint.token(name, ttl_s=ttl_s, **claims))

    def client(self, login: Login | None = None, replica: int = 0) -> httpx.AsyncClient:
        headers = login.headers if login is not None else {}
        return httpx.AsyncClient(base_url=self.urls[replica], headers=headers, timeout=20)

    @asynccontextmanager
    async def reading(
        self, login: Login | None, path: str, replica: int = 0, **options: Any
    ) -> AsyncIterator[Reading]:
        async with (
            self.client(login, replica) as client,
            Reading(client, path, **options) as reading,
        ):
            yield reading

    async def ticket(self, login: Login, job: str, **wish: Any) -> str:
        async with self.client(login) as client:
            made = await client.post("/v1/tickets", json={"job": job, **wish})
        assert made.status_code == 201, made.text
        ticket: str = made.json()["ticket"]
        return ticket
