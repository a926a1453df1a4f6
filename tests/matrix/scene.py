"""The servers on which everybody tries: RabbitMQ asking our own API process, and a Redis beside it.

No notifier runs: what Redis is asked comes from the API alone, and can be counted. Every owner has
one running job, whose name tells whose it is.
"""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

import aiormq
import httpx
from cs import CloudStack

from api.identity import Identity
from api.logon import logged_on
from api.secret import Secret
from api.session import COOKIE
from broker.topology import Exchange, declare, query_topology, topology
from deploy.process import LOOPBACK, free_port
from deploy.redis import RedisNode
from deploy.stack import Layout, Stack
from jobcast.events import Recorded, Started
from notifier.connection import connect
from notifier.users import digest
from tests.integration.authority import GuardedNode
from tests.integration.lab import Lab
from tests.matrix.cast import ISSUED, PAIRS, ROLES, STRANGER, Cast
from tests.matrix.policy import Kind, Row, mentions
from tests.mint import AUDIENCE, ISSUER, Mint, key_set

BUS: Final = Exchange("cloudstack-events", "topic")
CACHE_MS: Final = 5_000
SEEN: Final = re.compile(r"whose<([^>]*)>")


class Scene:
    """`jobs`: the one job of each owner. `url`: of the API."""

    def __init__(self, node: GuardedNode, redis: RedisNode, url: str, cast: Cast) -> None:
        self.node = node
        self.redis = redis
        self.url = url
        self.cast = cast
        self.jobs = {name: uuid.uuid4().hex for name in cast.credentials}
        self.unknown = uuid.uuid4().hex
        self._cookies: dict[str, str] = {}
        self._tickets: dict[tuple[str, str], str] = {}

    async def prepare(self) -> None:
        """Puts everybody's job into Redis, and the service's topology into RabbitMQ."""
        redis = connect(self.redis.url, name="matrix")
        self._secret = Secret(redis)
        await self._secret.agree()
        for name, job in self.jobs.items():
            lab = Lab(redis, name)
            whose = f"whose<{name}>"
            record = lab.say(Recorded, job, target="t", code=0, message=whose, group="all")
            await lab.tell(lab.say(Started, job, name=whose), record)
        await redis.aclose()
        await self.declare()

    async def declare(self) -> None:
        connection = await aiormq.connect(self.node.url)
        channel = await connection.channel()
        for wanted in (topology(1, BUS), query_topology()):
            await declare(channel, wanted)
        await connection.close()

    def job(self, me: str, other: str, kind: Kind) -> tuple[str, str]:
        """The owner, and the id."""
        match kind:
            case "own":
                return me, self.jobs[me]
            case "foreign":
                return other, self.jobs[other]
            case _:
                return STRANGER, self.unknown

    def owner_of(self, job_id: str) -> str:
        return next((name for name, job in self.jobs.items() if job == job_id), STRANGER)

    def bearer(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.cast.credentials[name]}"}

    def by(self, door: str, name: str) -> dict[str, str]:
        """The headers of a request by that door."""
        if door == "bearer":
            return self.bearer(name)
        if door == "basic":
            return self.cast.basic(name, self.cast.credentials[name])
        if door == "session":
            return self._session(name)
        if name not in self._cookies:
            opened = httpx.post(f"{self.url}/v1/session", headers=self.bearer(name))
            assert opened.status_code == 200, opened.text
            self._cookies[name] = opened.cookies[COOKIE]
        return {"Cookie": f"{COOKIE}={self._cookies[name]}", "Sec-Fetch-Site": "same-origin"}

    def signature(self, me: str, query: str) -> str:
        """What is to be added to the query of a request to CloudStack's API, by its own client."""
        keys = self.cast.keys[me]
        added = {"apiKey": keys.api_key}
        data = dict(parse_qsl(query)) | added
        client = CloudStack(self.url, keys.api_key, keys.secret_key)
        client._sign(data)  # type: ignore[no-untyped-call] # theirs
        return urlencode(added | {"signature": data["signature"]})

    def _session(self, name: str) -> dict[str, str]:
        """A new logon session, of those as well whom no logon would give one."""
        hexes = digest(self.cast.credentials[name]) if name in ROLES else ""
        who = Identity(name, ((ROLES | ISSUED)[name],), "token", hexes)
        return {"X-API-Session": logged_on(who, self._secret, time.time()).session_id}

    def ticket(self, me: str, job: str) -> str:
        """For a job that is taken to be one's own."""
        if (me, job) not in self._tickets:
            made = httpx.post(
                f"{self.url}/v1/tickets", headers=self.bearer(me), json={"job": job, "ttl_s": 900}
            )
            assert made.status_code == 201, made.text
            self._tickets[me, job] = quote(made.json()["ticket"])
        return self._tickets[me, job]


def pairs(who: str, row: Row | None = None) -> list[tuple[str, str]]:
    """Who asks, and whose the foreign job is, for a name of docs/policy.toml's `who`.

    A row in which no other owner stands is asked by each once.
    """
    found = PAIRS["subscriber" if who.startswith("ticket") else who.partition("_")[0]]
    if row is None or any(mentions(row, word) for word in ("{owner}", "{topic}", "{job}")):
        return found
    return list(dict(found).items())


def filled(template: str, **values: str) -> str:
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", value)
    return template


@contextmanager
def opened_scene(folder: Path) -> Iterator[Scene]:
    """All servers, started and prepared."""
    mint = Mint()
    users_file, keys = folder / "users.toml", folder / "keys.json"
    cast = Cast(users_file, mint)
    keys.write_bytes(key_set(mint))
    port = free_port()
    with (
        RedisNode(folder / "redis") as redis,
        GuardedNode(folder / "rabbitmq", f"http://{LOOPBACK}:{port}", CACHE_MS) as node,
    ):
        layout = Layout(
            amqp_url=node.url,
            redis_url=redis.url,
            redis_reader_url=redis.reader_url,
            users_file=users_file,
            folder=folder,
            notifiers=0,
            authority_port=port,
            management_url=node.management_url,
            env={
                "JOBCAST_JWT_ISSUER": ISSUER,
                "JOBCAST_JWT_AUDIENCE": AUDIENCE,
                "JOBCAST_JWT_JWKS": str(keys),
                "JOBCAST_REQUESTS_PER_S": "1000000",
            },
        )
        with Stack(layout) as stack:
            scene = Scene(node, redis, stack.urls[0], cast)
            asyncio.run(scene.prepare())
            yield scene
        node.kill()  # there is nothing to keep, and a graceful end takes seconds


def problem(body: str) -> str:
    """The name of a problem, with a space before it; the reason of one of the HMC's, with a comma;
    empty where there is none. A dialect that has names for what is wrong has the same ones."""
    try:
        told: Any = json.loads(body)
    except ValueError:
        return ""
    match told:
        case {"type": str(kind)} if kind.startswith("/problems/"):
            return f" {kind.removeprefix('/problems/')}"
        case {"http-status": _, "reason": reason}:
            return f",{reason}"
        case {"error": {"code": str(code)}}:
            return f" {code}"
        case _:
            return ""
