"""`python -m api` as a process: its limits, its health, its start and its end."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from deploy.stack import ROOT, Replica, Stack
from tests.contract.test_http.conftest import Door, Executor, OwnApi
from tests.contract.test_http.test_jobs import known
from tests.eventually import eventually
from tests.logins import Login, Logins


def client_of(replica: Replica, login: Login) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=replica.url, headers=login.headers)


def api(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api", *arguments],
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


async def test_too_many_requests_are_429_for_that_user_alone(
    own_api: OwnApi, subscriber: Login, logins: Logins
) -> None:
    with own_api(JOBCAST_REQUESTS_PER_S="2") as replica:
        async with client_of(replica, subscriber) as client:
            answers = [await client.get("/v1/jobs") for _ in range(6)]
            refused = [answer for answer in answers if answer.status_code == 429]
            assert len(refused) >= 3
            assert int(refused[0].headers["retry-after"]) >= 1
            assert refused[0].json()["type"] == "/problems/too-many-requests"
            # A stream is never refused for that: EventSource would give up.
            streams = [await client.head("/v1/events") for _ in range(6)]
            assert {answer.status_code for answer in streams} == {200}
        async with client_of(replica, logins.bob) as other:
            assert (await other.get("/v1/jobs")).status_code == 200


async def test_a_burst_of_readers_is_served(own_api: OwnApi, subscriber: Login) -> None:
    limits = httpx.Limits(max_connections=300)
    with own_api(JOBCAST_REQUESTS_PER_S="1000") as replica:
        async with httpx.AsyncClient(
            base_url=replica.url, headers=subscriber.headers, limits=limits, timeout=20
        ) as client:
            answers = await asyncio.gather(*(client.get("/v1/jobs") for _ in range(300)))
    assert {answer.status_code for answer in answers} == {200}


async def test_a_users_own_stream_limit_is_429_and_a_place_becomes_free_at_once(
    own_api: OwnApi, subscriber: Login
) -> None:
    with own_api(JOBCAST_STREAMS_PER_USER="1") as replica:
        async with client_of(replica, subscriber) as client:
            async with client.stream("GET", "/v1/events") as first:
                assert first.status_code == 200
                refused = await client.get("/v1/events")
                assert refused.status_code == 429
                assert refused.headers["retry-after"]

            async def opens() -> bool:
                async with client.stream("GET", "/v1/events") as again:
                    return again.status_code == 200

            await eventually(opens, 3)


async def test_the_processes_stream_limit_says_come_later(
    own_api: OwnApi, subscriber: Login, logins: Logins
) -> None:
    with own_api(JOBCAST_STREAMS_MAX="1") as replica:
        async with (
            client_of(replica, logins.bob) as other,
            client_of(replica, subscriber) as client,
            other.stream("GET", "/v1/events"),
        ):
            answer = await client.get("/v1/events")
    assert answer.status_code == 200
    retry, comment = answer.text.strip().splitlines()
    assert 5_000 <= int(retry.removeprefix("retry: ")) <= 15_000
    assert comment.startswith(": ")


async def test_on_sigterm_streams_and_long_polls_end_and_the_exit_code_is_0(
    own_api: OwnApi, door: Door, executor: Executor, subscriber: Login, job: str
) -> None:
    await executor.report("started", job)
    await known(door, job)
    with own_api() as replica:
        async with client_of(replica, subscriber) as client:
            poll = asyncio.create_task(client.get(f"/v1/jobs/{job}?wait=60"))
            async with client.stream("GET", "/v1/events") as stream:
                text = stream.aiter_text()
                await anext(text)
                replica.terminate()
                rest = "".join([part async for part in text])
            assert 0 <= int(rest.strip().rsplit("retry: ")[-1]) <= 1_000
            assert (await asyncio.wait_for(poll, 3)).json()["status"] == "running"
        await eventually(lambda: not replica.alive, 10)
        assert exit_code(replica) == 0


async def test_clients_that_do_not_read_do_not_hold_up_the_end(
    own_api: OwnApi, door: Door, executor: Executor, subscriber: Login, job: str
) -> None:
    for number in range(40):
        await executor.report("started", f"{job}-{number}", labels={"x": "y" * 200})
    big = {"result": "z" * 250_000}
    for number in range(8):
        await executor.report("succeeded", f"{job}-{number}", **big)
    await known(door, f"{job}-7", 2)
    with own_api() as replica:
        port = int(replica.url.rsplit(":", 1)[1])
        request = "GET /v1/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: x\r\n{}\r\n\r\n"
        header = f"Authorization: Bearer {subscriber.token}"
        stuck = []
        for _ in range(5):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.connect(("127.0.0.1", port))
            one.sendall(request.format(header).encode())
            stuck.append(one)
        await asyncio.to_thread(stuck[-1].recv, 100)
        began = time.monotonic()
        replica.terminate()
        await eventually(lambda: not replica.alive, 12)
        for one in stuck:
            one.close()
    assert time.monotonic() - began < 10
    assert exit_code(replica) == 0


def exit_code(replica: Replica) -> int | None:
    return replica._running.exit_code


async def test_readiness_names_what_is_missing_and_liveness_stays(
    own_api: OwnApi, stack: Stack, tmp_path: Path, logins: Logins
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    process = subprocess.Popen(
        [sys.executable, "-m", "api"],
        cwd=ROOT,
        env=os.environ
        | {
            "JOBCAST_AMQP_URL": "amqp://x:secret@127.0.0.1:1/",
            "JOBCAST_REDIS_URL": "redis://127.0.0.1:1/0",
            "JOBCAST_USERS_FILE": str(logins.users_file),
            "JOBCAST_HTTP_PORT": str(port),
        },
        stderr=subprocess.PIPE,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            alive = await eventually(lambda: client.get("/healthz"))
            assert alive.json() == {"status": "alive"}
            ready = await client.get("/readyz")
            assert ready.status_code == 503
            assert ready.headers["retry-after"]
            assert ready.json()["missing"] == ["redis", "rabbitmq", "hub"]
            assert "127.0.0.1" not in ready.text
            job = await client.get("/v1/jobs/x", headers=logins.alice.headers)
            assert (job.status_code, job.json()["type"]) == (503, "/problems/unavailable")
            stream = await client.get("/v1/events", headers=logins.alice.headers, timeout=15)
            assert (stream.status_code, stream.text[:7]) == (200, "retry: ")
    finally:
        process.terminate()
        _, said = process.communicate(timeout=10)
    assert process.returncode == 0
    assert b"secret" not in said


def test_a_taken_port_is_one_line_that_names_the_variable(logins: Logins) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = api(JOBCAST_HTTP_PORT=port, JOBCAST_USERS_FILE=str(logins.users_file))
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert f"JOBCAST_HTTP_PORT={port}" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [("JOBCAST_STREAMS_MAX", "x"), ("JOBCAST_USERS_FILE", "/nowhere/users.toml")],
)
def test_a_bad_setting_is_one_line_that_names_the_variable(name: str, value: str) -> None:
    done = api(**{"JOBCAST_HTTP_PORT": "0", name: value})
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert name in done.stderr
    assert value in done.stderr


def test_users_are_kept_from_the_command_line(tmp_path: Path) -> None:
    file = {"JOBCAST_USERS_FILE": str(tmp_path / "users.toml")}
    added = api("user", "add", "alice", "--role", "subscriber", "--role", "executor", **file)
    assert (added.returncode, len(added.stdout.strip())) == (0, 43)
    assert api("user", "list", **file).stdout == "alice  subscriber, executor  tokens: 1\n"
    rotated = api("user", "rotate", "alice", **file)
    assert rotated.stdout != added.stdout
    token, key, secret = api("user", "rotate", "alice", "--cloudstack", **file).stdout.split("\n")[
        :3
    ]
    text = (tmp_path / "users.toml").read_text()
    assert token not in text
    for line, named in ((key, "key = "), (secret, "secret = ")):
        assert line.startswith(named)
        assert line.removeprefix(named) in text
    listed = "alice  subscriber, executor  tokens: 1  cloudstack keys\n"
    assert api("user", "list", **file).stdout == listed
    assert len(api("user", "rotate", "alice", **file).stdout.split()) == 1
    assert api("user", "list", **file).stdout == "alice  subscriber, executor  tokens: 1\n"
    for refused in ("alice", "guest"):
        again = api("user", "add", refused, "--role", "admin", **file)
        assert again.returncode != 0
        assert refused in again.stderr
    own = {"JOBCAST_AMQP_URL": "amqp://alice:token@127.0.0.1/", **file}  # as in alice's own shell
    assert api("user", "rotate", "alice", **own).returncode == 0
    assert (
        "reserved"
        in api(
            "user", "add", "bob", "--role", "admin", **(own | {"JOBCAST_AMQP_URL": "amqp://bob@h/"})
        ).stderr
    )
    assert api("user", "remove", "alice", **file).returncode == 0
    assert api("user", "list", **file).stdout == ""
