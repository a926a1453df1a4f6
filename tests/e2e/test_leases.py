"""An executor that dies does not leave its job running."""

import asyncio
import os
import signal
import sys
import time

import httpx

from deploy.rabbitmq import RabbitMQNode
from deploy.stack import Stack, python_environment
from tests.eventually import eventually
from tests.logins import Login

LEASE_S = 2.0


async def test_a_killed_jobcast_run_is_given_the_lost_verdict_within_its_lease_and_two_seconds(
    stack: Stack, rabbitmq: RabbitMQNode, subscriber: Login
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jobcast.cli", "run", "--owner", subscriber.name, "--id", "doomed"),
        *("--lease", str(LEASE_S), "--", "sleep", "30"),
        env=python_environment() | {"JOBCAST_AMQP_URL": rabbitmq.url},
        start_new_session=True,
    )
    async with httpx.AsyncClient(base_url=stack.urls[0], headers=subscriber.headers) as http:

        async def status() -> str:
            return str((await http.get("/v1/jobs/doomed")).json().get("status"))

        async def running() -> bool:
            return await status() == "running"

        await eventually(running)
        # For longer than its lease: the heartbeats keep it.
        alive_until = time.monotonic() + LEASE_S + 1
        await eventually(lambda: time.monotonic() > alive_until)
        assert await running()
        os.kill(process.pid, signal.SIGKILL)
        killed_at = time.monotonic()
        job = (await http.get("/v1/jobs/doomed", params={"wait": 30}, timeout=40)).json()
        took = time.monotonic() - killed_at
    await process.wait()
    assert (job["status"], job["outcome"]) == ("failed", "error")
    assert job["error"]["code"] == "lost"
    assert took < LEASE_S + 2
