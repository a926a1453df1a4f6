"""The lines of the README, and those for executors, run as they stand."""

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Final

import httpx
import pytest

from deploy.rabbitmq import RabbitMQNode
from deploy.stack import ROOT, Stack, python_environment
from jobcast.client import Client
from tests.eventually import eventually
from tests.logins import Logins

README: Final = (ROOT / "README.md").read_text()
EXECUTORS: Final = (ROOT / "docs" / "executors.md").read_text()


def block(language: str, word: str, text: str = README) -> str:
    """The one code block of a language that holds a word."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (found,) = [code for code in blocks if word in code]
    return str(found)


@pytest.fixture
def environment(
    stack: Stack, rabbitmq: RabbitMQNode, logins: Logins, tmp_path: Path
) -> dict[str, str]:
    return python_environment() | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "JOBCAST_URL": stack.urls[0],
        "JOBCAST_AMQP_URL": rabbitmq.url_of(logins.executor.name, logins.executor.token),
        "AMQP_PORT": str(rabbitmq.port),
        "XDG_STATE_HOME": str(tmp_path),
        "JOBCAST_TOKEN": logins.alice.token,
        "EXECUTOR_TOKEN": logins.executor.token,
    }


async def start(environment: dict[str, str], *command: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )


async def run(environment: dict[str, str], *command: str) -> str:
    process = await start(environment, *command)
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    return printed.decode()


async def test_the_readme_reports_jobs_in_three_ways_and_learns_of_their_end(
    environment: dict[str, str], stack: Stack, logins: Logins
) -> None:
    subscriber = await start(environment, sys.executable, "-c", block("python", "subscribe"))
    try:
        await run(environment, "sh", "-ec", block("sh", "jobcast run --owner"))
        await run(environment, "sh", "-ec", block("sh", '"subject":"by-hand"'))
        await run(environment, sys.executable, "-c", block("python", "Reporter"))
        async with httpx.AsyncClient(base_url=stack.urls[1], headers=logins.alice.headers) as http:
            for job_id in ("build-1", "by-hand", "sums-1"):
                job = (await http.get(f"/v1/jobs/{job_id}", params={"wait": 10})).json()
                assert (job["id"], job["status"]) == (job_id, "succeeded")
        assert subscriber.stdout is not None
        told = [await asyncio.wait_for(subscriber.stdout.readline(), 10) for _ in range(3)]
        assert sorted(line.split()[0].decode() for line in told) == ["build-1", "by-hand", "sums-1"]
    finally:
        subscriber.kill()
        await subscriber.wait()
    printed = await run(environment, "sh", "-ec", block("sh", "jobcast watch build-1"))
    assert "event: snapshot" in printed
    assert '"message":"done"' in printed


async def test_the_example_for_executors_stops_when_its_job_is_canceled(
    environment: dict[str, str], stack: Stack, logins: Logins
) -> None:
    example = asyncio.create_task(
        run(environment, sys.executable, "-c", block("python", "cancel_requested", EXECUTORS))
    )
    async with Client(stack.urls[0], logins.alice.token) as alice:
        await eventually(lambda: alice.get("copy-1"), 20)
        assert "copy-1" in await run(environment, "jobcast", "cancel", "copy-1")
        job = await alice.wait("copy-1", 20)
    assert await example == ""
    assert (job.status.value, job.message) == ("canceled", "stopped between two files")
    assert b"copied" in bytes(job.result)
