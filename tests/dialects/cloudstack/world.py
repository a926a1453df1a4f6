"""Servers that speak CloudStack, over TLS, and who asks and reports there."""

import base64
import hmac
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx

from api.users import add_user, new_keys
from deploy.certificates import Certificates
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Stack
from notifier.users import Keys
from tests.cloudevents import event
from tests.eventually import eventually
from tests.tls_servers import tls_servers

BUS: Final = "cloudstack-events"
Asked = Callable[..., Any]


class Who(NamedTuple):
    name: str
    token: str
    keys: Keys


class World(NamedTuple):
    """The stack's users are the tests' to edit."""

    rabbitmq: RabbitMQNode
    redis: RedisNode
    stack: Stack

    @property
    def certificates(self) -> Certificates:
        assert self.stack.layout.certificates is not None
        return self.stack.layout.certificates

    @property
    def users_file(self) -> Path:
        return self.stack.layout.users_file

    @property
    def url(self) -> str:
        return f"{self.stack.urls[0]}/client/api"

    def user(self, *roles: str) -> Who:
        """A fresh one, with keys."""
        name, keys = f"owner-{uuid.uuid4().hex[:12]}", new_keys()
        token = add_user(self.users_file, name, roles or ["subscriber"], keys=keys)
        return Who(name, token, keys)

    def http(self, who: Who | None = None) -> httpx.AsyncClient:
        headers = {} if who is None else {"Authorization": f"Bearer {who.token}"}
        tls = self.certificates.context()
        return httpx.AsyncClient(
            base_url=self.stack.urls[0], verify=tls, headers=headers, timeout=30
        )


@contextmanager
def opened_world(folder: Path) -> Iterator[World]:
    """Users, servers and processes of a test module's own."""
    with tls_servers(folder, env={"JOBCAST_CLOUDSTACK_EXCHANGE": BUS}) as servers:
        yield World(servers.rabbitmq, servers.redis, servers.stack)


class Reports:
    """What executors say of jobs."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def say(self, *events: tuple[str, str, str, dict[str, Any]]) -> None:
        """(owner, job, word, data) of each."""
        batch = [event(owner, job, word, **data) for owner, job, word, data in events]
        answer = await self.http.post("/v1/events", json=batch)
        assert answer.status_code == 202, answer.text

    async def started(self, owner: Who, **data: Any) -> str:
        job = str(uuid.uuid4())
        await self.say((owner.name, job, "started", data))
        await self.stored(owner, job, "running")
        return job

    async def ended(self, owner: Who, word: str, **data: Any) -> str:
        job = await self.started(owner)
        await self.say((owner.name, job, word, data))
        await self.stored(owner, job, word)
        return job

    async def stored(self, owner: Who, job: str, status: str) -> None:
        async def found() -> bool:
            answer = await self.http.get(f"/v1/jobs/{job}", params={"owner": owner.name})
            return answer.status_code == 200 and answer.json()["status"] == status

        await eventually(found)


def signed(who: Who, **parameters: str) -> dict[str, str]:
    """As the guide has it."""
    given = {"apikey": who.keys.api_key} | parameters
    pairs = sorted((name.lower(), quote(value, safe="").lower()) for name, value in given.items())
    text = "&".join(f"{name}={value}" for name, value in pairs)
    digest = hmac.digest(who.keys.secret_key.encode(), text.encode(), "sha1")
    return given | {"signature": base64.b64encode(digest).decode()}
