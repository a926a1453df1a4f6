"""An executor that dies does not leave its job running."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from deploy.rabbitmq import RabbitMQNode
from deploy.stack import Stack, python_environment
from tests.eventually import eventually
from tests.logins import Login

LEASE_S = 2.0


class Doomed:
    """A `jobcast run` that lives for longer than its lease, and is then killed."""

    def __init__(self, http: httpx.AsyncClient, pid: int) -> None:
        self._http = http
        self._pid = pid

    async def _running(self) -> bool:
        return bool((await self._http.get("/v1/jobs/doomed")).json().get("status") == "running")

    async def lives(self) -> None:
        """Its heartbeats keep it."""
        await eventually(self._running)
        alive_until = time.monotonic() + LEASE_S + 1
        await eventually(lambda: time.monotonic() > alive_until)
        assert await self._running()

    async def dies(self) -> float:
        """Kills it and waits for the verdict; the answer is how long that took, in seconds."""
        os.kill(self._pid, signal.SIGKILL)
        killed_at = time.monotonic()
        job = (await self._http.get("/v1/jobs/doomed", params={"wait": 30}, timeout=40)).json()
        took = time.monotonic() - killed_at
        assert (job["status"], job["outcome"]) == ("failed", "error")
        assert job["error"]["code"] == "lost"
        return took


@asynccontextmanager
async def doomed(stack: Stack, rabbitmq: RabbitMQNode, login: Login) -> AsyncIterator[Doomed]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jobcast.cli", "run", "--owner", login.name, "--id", "doomed"),
        *("--lease", str(LEASE_S), "--", "sleep", "30"),
        env=python_environment() | {"JOBCAST_AMQP_URL": rabbitmq.url},
        start_new_session=True,
    )
    try:
        async with httpx.AsyncClient(base_url=stack.urls[0], headers=login.headers) as http:
            yield Doomed(http, process.pid)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads the group of what it has started
        await process.wait()


async def test_a_killed_jobcast_run_is_given_the_lost_verdict_within_its_lease_and_two_seconds(
    stack: Stack, rabbitmq: RabbitMQNode, subscriber: Login
) -> None:
    async with doomed(stack, rabbitmq, subscriber) as job:
        await job.lives()
        assert await job.dies() < LEASE_S + 2


@pytest.mark.parametrize("notifier", [0, 1])  # one of them has the queue
async def test_a_notifier_that_dies_with_it_does_not_delay_the_verdict(
    stack: Stack, rabbitmq: RabbitMQNode, subscriber: Login, notifier: int
) -> None:
    async with doomed(stack, rabbitmq, subscriber) as job:
        await job.lives()
        stack.notifiers[notifier].kill()
        assert await job.dies() < LEASE_S + 2
