"""Where `zhmcclient` goes: API replicas that speak TLS; who asks there, and what jobs do."""

import time
import uuid
from collections.abc import Callable
from typing import Any, Final

import httpx
import pytest
import zhmcclient

from api import seal
from api.users import add_user
from deploy.process import LOOPBACK
from deploy.stack import Stack
from notifier.users import digest
from tests.cloudevents import event
from tests.logins import Login

PATIENCE_S: Final = 30.0


class World:
    """With an executor of its own. The stack speaks TLS, and its users are the tests' to edit."""

    def __init__(self, stack: Stack) -> None:
        certificates = stack.layout.certificates
        assert certificates is not None
        self.stack = stack
        self.certificates = certificates
        self.users_file = stack.layout.users_file
        name = f"executor.{uuid.uuid4().hex[:8]}"
        self.executor = Login(name, add_user(self.users_file, name, ["executor"]))

    def fresh(self, name: str = "owner", role: str = "subscriber") -> Login:
        """A user of this test alone, whose name holds all that topics write otherwise."""
        name = f"{name}.{uuid.uuid4().hex[:8]}"
        return Login(name, add_user(self.users_file, name, [role]))

    def port(self, replica: int = 0) -> int:
        return int(self.stack.urls[replica].rpartition(":")[2])

    def session(self, who: Login, replica: int = 0, **more: Any) -> zhmcclient.Session:
        return zhmcclient.Session(
            LOOPBACK,
            **{"userid": who.name, "password": who.token} | more,
            port=self.port(replica),
            verify_cert=str(self.certificates.ca),
        )

    def http(self, replica: int = 0) -> httpx.Client:
        return httpx.Client(
            base_url=self.stack.urls[replica], verify=self.certificates.context(), timeout=30
        )

    def report(self, owner: Login, job: str, word: str, **data: Any) -> None:
        said = event(owner.name, job, word, **data)
        with self.http() as http:
            told = http.post("/v1/events", json=said, headers=self.executor.headers)
        assert told.status_code == 202, told.text

    def job(self, session: zhmcclient.Session, owner: Login, **data: Any) -> zhmcclient.Job:
        """A job of the owner, which runs and can be read."""
        job = zhmcclient.Job(session, f"/api/jobs/{uuid.uuid4().hex}", "POST", "/api/x")
        self.report(owner, name_of(job), "started", **data)
        with self.http() as http:
            path = f"/v1/jobs/{name_of(job)}"
            eventually(lambda: http.get(path, headers=owner.headers).status_code == 200)
        return job

    def ended(self, job: zhmcclient.Job, owner: Login, word: str, **data: Any) -> None:
        """Ends the job, and waits until it can be seen."""
        self.report(owner, name_of(job), word, **data)
        with self.http() as http:
            path = f"/v1/jobs/{name_of(job)}?wait={PATIENCE_S}"
            assert http.get(path, headers=owner.headers).json()["ended_at"]

    @property
    def log(self) -> str:
        """What all our processes have written."""
        return "".join(path.read_text() for path in self.stack.layout.folder.glob("*.log"))


def name_of(job: zhmcclient.Job) -> str:
    return str(job.uri).rpartition("/")[2]


def eventually(check: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    ends = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < ends, "it has not come to that"
        time.sleep(0.05)


def refused(call: Callable[[], object]) -> tuple[int, int]:
    with pytest.raises(zhmcclient.HTTPError) as caught:
        call()
    return caught.value.http_status, caught.value.reason


def sealed(who: Login, purpose: bytes, expires: float, name: str | None = None) -> str:
    key = bytes.fromhex(digest(who.token))
    return seal.seal(f"{name or who.name}!nonce", key, purpose, int(expires))
