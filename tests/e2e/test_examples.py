"""`examples/service.py`, run as examples/README.md has it: the 202 of every form, and its end."""

import os
import re
import secrets
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest

from api.dialects import DIALECTS
from deploy.process import LOOPBACK, Command, Keeper, free_port
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import ROOT, Layout, Stack, python_environment
from notifier.users import digest
from tests.logins import Logins

README: Final = (ROOT / "examples" / "README.md").read_text()
PRIMES: Final = 17_984
KEY: Final = "k" * 64
WAYS: Final = {
    "native": ("/primes?", f'"result":{{"primes":{PRIMES}}}'),
    "hmc": ("job-uri", f'"primes": *{PRIMES}'),
    "cloudstack": ("queryAsyncJobResult", f'"primes": *{PRIMES}'),
    "netapp": ("management-server", f'"name":"primes","value":"{PRIMES}"'),
    "cisco": ("getAsyncOperationJobRecords", f'"primes": *{PRIMES}'),
}
"""A word of the way's block, and what is told at the end."""

Environment = dict[str, str]


@pytest.fixture(scope="module")
def environment(
    session_stack: Stack,
    rabbitmq: RabbitMQNode,
    redis_server: RedisNode,
    logins: Logins,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Environment]:
    """What README has exported, while the service runs. Its owner has keys for CloudStack too, and
    so a replica of their own."""
    folder = tmp_path_factory.mktemp("examples")
    name, token, secret = f"owner-{uuid.uuid4().hex[:12]}", secrets.token_urlsafe(), "s" * 64
    users = folder / "users.toml"
    users.touch(mode=0o600)
    users.write_text(
        f'[[user]]\nname = "{name}"\nroles = ["subscriber"]\ntoken_sha256 = ["{digest(token)}"]\n'
        f'cloudstack = {{ api_key = "{KEY}", secret_key = "{secret}" }}\n'
    )
    layout = Layout(
        amqp_url=rabbitmq.url,
        redis_url=redis_server.url,
        redis_reader_url=redis_server.reader_url,
        users_file=users,
        folder=folder,
        notifiers=0,
    )
    port = free_port()
    with Stack(layout) as own:
        exported = python_environment() | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OWNER": name,
            "JOBCAST_TOKEN": token,
            "JOBCAST_URL": own.urls[0],
            "JOBCAST_AMQP_URL": rabbitmq.url_of(*logins.executor),
            "SERVICE": f"http://{LOOPBACK}:{port}",
            "CLOUDSTACK_KEY": KEY,
            "CLOUDSTACK_SECRET": secret,
            "PORT": str(port),
        }
        keeper = Keeper()
        command = [sys.executable, str(ROOT / "examples" / "service.py")]
        service = keeper.spawn(
            Command(name="service", args=command, log=folder / "service.log", env=exported)
        )
        try:
            service.wait_until(lambda: not free(port), 20)
            yield exported
        finally:
            service.stop(10)
            keeper.close()


def free(port: int) -> bool:
    try:
        httpx.get(f"http://{LOOPBACK}:{port}/", timeout=2)
    except httpx.TransportError:
        return True
    return False


@pytest.mark.parametrize("way", WAYS)
def test_each_way_leads_from_the_202_to_the_end(environment: Environment, way: str) -> None:
    if way != "native" and way not in DIALECTS:
        pytest.skip(f"the dialect {way} is not served")
    word, told = WAYS[way]
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    (block,) = [text for text in blocks if word in text]
    done = subprocess.run(
        ["sh", "-euc", block],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(told, done.stdout + done.stderr), done


@pytest.mark.parametrize(
    ("asked", "status", "answer"),
    [
        (
            ("/primes?below=10", None),
            202,
            {"id": "ID", "links": {"self": "/v1/jobs/ID", "events": "/v1/jobs/ID/events"}},
        ),
        (("/api/primes/operations/count", {"below": 10}), 202, {"job-uri": "/api/jobs/ID"}),
        (
            ("/client/api?command=countPrimes&below=10", None),
            200,
            {"countprimesresponse": {"jobid": "ID"}},
        ),
        (
            ("/api/v2/primes", {"below": 10}),
            202,
            {"job": {"key": "ID", "_links": {"self": {"href": "/api/management-server/jobs/ID"}}}},
        ),
        (
            ("/clm/rpc", {"id": 7, "method": "asyncCountPrimes", "params": {"below": 10}}),
            200,
            {"jsonrpc": "2.0", "id": 7, "result": "ID"},
        ),
    ],
)
def test_the_answer_has_the_products_form_and_the_job_is_known(
    environment: Environment, asked: tuple[str, Any], status: int, answer: dict[str, Any]
) -> None:
    path, body = asked
    with httpx.Client(timeout=20) as http:
        started = http.post(f"{environment['SERVICE']}{path}", json=body)
        assert started.status_code == status, started.text
        (job_id,) = set(re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4,12}){4}", started.text))
        told = started.json()
        assert told == msgspec.json.decode(
            msgspec.json.encode(answer).replace(b"ID", job_id.encode())
        )
        url = f"{environment['JOBCAST_URL']}/v1/jobs/{job_id}"
        job = http.get(url, headers={"Authorization": f"Bearer {environment['JOBCAST_TOKEN']}"})
    assert job.status_code == 200
    assert job.json()["operation"] == "count-primes"


def test_an_operation_that_fails_is_a_job_that_fails_and_a_bad_order_is_none(
    environment: Environment,
) -> None:
    headers = {"Authorization": f"Bearer {environment['JOBCAST_TOKEN']}"}
    with httpx.Client(timeout=20) as http:
        started = http.post(f"{environment['SERVICE']}/primes?below=2")
        job = http.get(f"{started.headers['location']}?wait=15", headers=headers).json()
        assert (job["status"], job["error"]["message"]) == ("failed", "there is no prime below 2")
        for path, body in {
            "/primes?below=x": None,
            "/api/v2/primes": [1],
            "/api/primes/operations/count": {},
            "/clm/rpc": {"method": "asyncCountPrimes"},
        }.items():
            assert http.post(f"{environment['SERVICE']}{path}", json=body).status_code == 400
