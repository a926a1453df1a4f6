"""`scripts/up` as a stranger runs it, but for the set-up: everything private, any free ports."""

import os
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from deploy.process import LOOPBACK
from deploy.redis import RedisNode
from deploy.stack import ROOT
from tests.eventually import eventually
from tests.servers import need_servers


@pytest.fixture(autouse=True)
def _servers() -> None:
    need_servers()


DOOR = re.compile(r"^ +(HTTP|SSE|AMQP|Redis) +(\S+)$", re.MULTILINE)
DOORS = ("AMQP", "REDIS", "HTTP", "STOMP")
TRUST = re.compile(r"export SSL_CERT_FILE=(\S+)$", re.MULTILINE)
TOKEN = re.compile(r"^ +(admin|executor|alice) +(\S+) ", re.MULTILINE)


class Run:
    def __init__(self, folder: Path, *arguments: str, **env: str) -> None:
        self.output = folder / "output.txt"
        settings = {
            "PYTHONPATH": str(ROOT),
            "JOBCAST_DATA_DIR": str(folder / "data"),
            "JOBCAST_USERS_FILE": str(folder / "users.toml"),
            **dict.fromkeys((f"JOBCAST_{door}_PORT" for door in DOORS), "0"),
        }
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "deploy.up", *arguments],
                cwd=folder,
                env=os.environ | settings | env,
                stdout=output,
                stderr=output,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    async def up(self) -> dict[str, str]:
        """Its doors, once it says that it is up."""
        await eventually(lambda: self.process.poll() is not None or "logs " in self.text, 50)
        assert self.process.poll() is None, self.text
        return dict(DOOR.findall(self.text))


@contextmanager
def running(folder: Path, *arguments: str, **env: str) -> Iterator[Run]:
    run = Run(folder, *arguments, **env)
    try:
        yield run
    finally:
        run.process.kill()  # its guards end the rest
        run.process.wait()


def processes_of(folder: Path) -> list[str]:
    """Command lines and environments of living processes that name this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in command and int(process.name) != os.getpid():
            found.append(command.decode(errors="replace").replace("\0", " ")[:200])
    return found


def status(url: str, token: str, tls: ssl.SSLContext | None = None) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=5, context=tls) as answer:  # noqa: S310 - our own address
        return int(answer.status)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.timeout(120)
async def test_it_opens_all_doors_and_a_signal_stops_everything(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running(tmp_path, "--replicas", "2") as run:
        doors = await run.up()
        assert doors.keys() == {"HTTP", "SSE", "AMQP", "Redis"}
        tokens = dict(TOKEN.findall(run.text))
        assert tokens.keys() == {"admin", "executor", "alice"}
        assert (tmp_path / "users.toml").stat().st_mode & 0o777 == 0o600
        assert status(f"{doors['HTTP']}v1/jobs", tokens["alice"]) == 200
        began = time.monotonic()
        run.process.send_signal(number)
        assert run.process.wait(20) == 0
        assert time.monotonic() - began < 15
    if sys.platform == "linux":
        assert processes_of(tmp_path) == []


@pytest.mark.timeout(120)
async def test_the_second_start_keeps_users_and_shows_no_token(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        await first.up()
        tokens = dict(TOKEN.findall(first.text))
        first.process.terminate()
        first.process.wait(20)
    with running(tmp_path) as second:
        doors = await second.up()
        assert status(f"{doors['HTTP']}v1/jobs", tokens["alice"]) == 200
        assert not [token for token in tokens.values() if token in second.text]


@pytest.mark.timeout(120)
async def test_with_tls_every_door_speaks_it_and_the_next_start_keeps_the_authority(
    tmp_path: Path,
) -> None:
    with running(tmp_path, "--tls", "--demo") as first:
        doors = await first.up()
        schemes = {name: url.partition(":")[0] for name, url in doors.items()}
        assert schemes == {"HTTP": "https", "SSE": "https", "AMQP": "amqps", "Redis": "rediss"}
        tokens = dict(TOKEN.findall(first.text))
        (authority,) = TRUST.findall(first.text)
        tls = ssl.create_default_context(cafile=authority)
        url = f"{doors['HTTP']}v1/jobs"
        assert status(url, tokens["alice"], tls) == 200
        client = httpx.AsyncClient(
            verify=tls, headers={"Authorization": f"Bearer {tokens['alice']}"}
        )
        async with client:

            async def has_jobs() -> bool:
                return bool((await client.get(url)).json()["jobs"])

            await eventually(has_jobs, 20)  # the demo's, reported over AMQP
        first.process.terminate()
        assert first.process.wait(20) == 0
    with running(tmp_path, "--tls") as second:
        doors = await second.up()
        assert status(f"{doors['HTTP']}v1/jobs", tokens["alice"], tls) == 200


@pytest.mark.parametrize("name", ["JOBCAST_HTTP_PORT", "JOBCAST_REDIS_PORT", "JOBCAST_AMQP_PORT"])
async def test_a_taken_port_is_told_in_one_line_that_names_its_variable(
    tmp_path: Path, redis_server: RedisNode, name: str
) -> None:
    with running(tmp_path, **{name: str(redis_server.port)}) as run:
        assert run.process.wait(30) == 1
        assert run.text.startswith(f"{name}={redis_server.port}: ")
        assert len(run.text.splitlines()) == 1


async def test_two_runs_do_not_share_a_data_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "lock").open("w") as lock:
        fcntl = pytest.importorskip("fcntl")
        fcntl.flock(lock, fcntl.LOCK_EX)
        with running(tmp_path, JOBCAST_REDIS_URL=f"redis://{LOOPBACK}/0") as run:
            assert run.process.wait(30) == 1
            assert "JOBCAST_DATA_DIR=" in run.text
            assert len(run.text.splitlines()) == 1


@pytest.mark.timeout(120)
async def test_a_process_that_dies_is_started_again(tmp_path: Path) -> None:
    with running(tmp_path) as run:
        doors = await run.up()
        token = dict(TOKEN.findall(run.text))["alice"]
        pid = int((tmp_path / "data" / "redis" / "pid").read_text())
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: "Redis is back" in run.text, 20)
        await eventually(lambda: status(f"{doors['HTTP']}v1/jobs", token) == 200, 20)
        run.process.terminate()
        assert run.process.wait(20) == 0


async def test_a_notifier_that_does_not_come_up_is_explained(
    tmp_path: Path, redis_server: RedisNode
) -> None:
    with running(tmp_path, JOBCAST_REDIS_URL=redis_server.url, JOBCAST_ORPHAN_S="none") as run:
        assert run.process.wait(50) == 1
        assert "notifier-1 ended with exit code" in run.text
        assert "JOBCAST_ORPHAN_S=none" in run.text
