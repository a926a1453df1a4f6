"""`python -m api` with a listener for RabbitMQ beside the public one."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from api.users import add_user
from deploy.process import LOOPBACK, free_port
from deploy.redis import RedisNode
from tests.eventually import eventually

ROOT = Path(__file__).parents[2]
SECRET = "s" * 22


@asynccontextmanager
async def api(
    redis_server: RedisNode, users_file: Path, **settings: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process; RabbitMQ is away, which hinders nobody from asking."""
    environment = os.environ | {
        "JOBCAST_AMQP_URL": f"amqp://svc:pw@{LOOPBACK}:{free_port()}/",
        "JOBCAST_REDIS_URL": redis_server.url,
        "JOBCAST_USERS_FILE": str(users_file),
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "api"),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_rabbitmq_is_answered_on_its_own_port_alone_until_the_process_ends(
    redis_server: RedisNode, tmp_path: Path
) -> None:
    users_file, public, asking = tmp_path / "users.toml", free_port(), free_port()
    question = {"username": "alice", "password": add_user(users_file, "alice", ["subscriber"])}
    ports = {
        "JOBCAST_HTTP_PORT": str(public),
        "JOBCAST_AUTHORITY_PORT": str(asking),
        "JOBCAST_AUTHORITY_SECRET": SECRET,
    }
    async with (
        api(redis_server, users_file, **ports) as process,
        httpx.AsyncClient(timeout=5) as http,
    ):

        async def ask(port: int, path: str) -> httpx.Response:
            return await http.post(f"http://{LOOPBACK}:{port}{path}", data=question)

        answer = await eventually(lambda: ask(asking, f"/{SECRET}/user"), 20)
        assert (answer.status_code, answer.text) == (200, "allow")
        assert (await ask(asking, "/user")).status_code == 404
        for path in ("/user", f"/{SECRET}/user"):
            assert (await ask(public, path)).status_code in {404, 405}
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0


@pytest.mark.parametrize("variable", ["JOBCAST_AUTHORITY_PORT", "JOBCAST_HTTP_PORT"])
async def test_a_taken_port_is_told_with_its_variable(
    redis_server: RedisNode, tmp_path: Path, variable: str
) -> None:
    users_file = tmp_path / "users.toml"
    add_user(users_file, "alice", ["subscriber"])
    ports = {"JOBCAST_HTTP_PORT": "0", "JOBCAST_AUTHORITY_PORT": "0"}
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = str(taken.getsockname()[1])
        async with api(redis_server, users_file, **(ports | {variable: port})) as process:
            _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert said.decode().splitlines()[-1].startswith(f"jobcast api: {variable}={port}: ")
