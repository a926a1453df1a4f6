"""jobcast's own processes on one machine: so many notifiers, so many API replicas.

Owns: these processes, their ports and logs. RabbitMQ and Redis are given to it by URL.
Promises: `start` returns when every state queue has a consumer and every replica answers `/readyz`
with 200; every process keeps its address through `kill`, `stop` and `start`; nothing is left
running after the `with` block.
Order of stopping: all are asked at once (they finish what they have in hand), then killed.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from deploy.certificates import Certificates
from deploy.health import answers_ok, consumes
from deploy.process import (
    LOOPBACK,
    Command,
    Keeper,
    claim_port,
)
from deploy.restartable import Restartable, Startable
from jobcast.environment import Environment

ROOT: Final = Path(__file__).resolve().parent.parent
READY_TIMEOUT_S: Final = 40.0
STOP_TIMEOUT_S: Final = 4.0


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What to start, and with what."""

    amqp_url: str
    redis_url: str  # the notifiers'
    redis_reader_url: str | None = None  # the API's, with fewer rights; None: the same
    users_file: Path
    folder: Path  # for logs
    notifiers: int = 1
    http_host: str = LOOPBACK
    http_ports: Sequence[int] = (0,)  # one per API replica; 0 = any free one
    tls: bool = False  # whether the replicas have been told to speak it, in `env` or ours
    certificates: Certificates | None = None  # for all of them, and all that they connect to
    authority_port: int | None = None  # where the first replica answers RabbitMQ's questions
    management_url: str | None = None
    env: Mapping[str, str] = {}  # further settings, JOBCAST_…


class Service(Restartable):
    """One of our processes."""

    def __init__(self, keeper: Keeper, command: Command, ready: Callable[[], bool]) -> None:
        self.name = command.name
        self.log = command.log
        self._keeper = keeper
        self._command = command
        self._ready = ready

    def __repr__(self) -> str:
        return f"<Service {self.name} {f'pid {self.pid}' if self.alive else 'down'}>"

    def launch(self) -> None:
        """Starts it, if it is down, without waiting."""
        if not self.alive:
            self._child = self._keeper.spawn(self._command)

    def wait(self, others: Sequence["Service"] = ()) -> None:
        """Returns when it is ready. Raises StartFailure, also if one of the others ends first."""

        def ready() -> bool:
            for other in others:
                other.require_alive()
            return self._ready()

        self._running.wait_until(ready, READY_TIMEOUT_S)

    def require_alive(self) -> None:
        self._running.require_alive()

    def start(self) -> None:
        self.launch()
        self.wait()

    def terminate(self) -> None:
        """Asks it to end, without waiting."""
        if self.alive:
            self._running.terminate()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        if self._child is not None:
            self._child.stop(timeout_s)


class Replica(Service):
    """An API process, with its address."""

    def __init__(self, keeper: Keeper, command: Command, url: str) -> None:
        super().__init__(keeper, command, lambda: answers_ok(f"{url}/readyz"))
        self.url = url


class Stack(Startable):
    """`with Stack(layout) as stack: stack.replicas[0].url`; blocking, like the nodes."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._keeper = Keeper()
        self.notifiers = [self._notifier(number) for number in range(1, layout.notifiers + 1)]
        self.replicas = [
            self._replica(number, claim_port(port))
            for number, port in enumerate(layout.http_ports, start=1)
        ]

    @property
    def services(self) -> list[Service]:
        return [*self.notifiers, *self.replicas]

    @property
    def urls(self) -> list[str]:
        """The base URLs of the API replicas, without a slash at the end."""
        return [replica.url for replica in self.replicas]

    def start(self) -> None:
        """Starts what is down and waits for all. Raises StartFailure."""
        for service in self.services:
            service.launch()
        for service in self.services:
            service.wait(self.services)

    def stop(self) -> None:
        for service in self.services:
            service.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for service in self.services:
            service.stop(max(0.0, deadline - time.monotonic()))
        self._keeper.close()

    def _notifier(self, number: int) -> Service:
        command = self._command(f"notifier-{number}", "notifier", {})
        env = Environment(command.env or {})
        return Service(self._keeper, command, lambda: consumes(env))  # it has no door of its own

    def _replica(self, number: int, port: int) -> Replica:
        host = self.layout.http_host
        env = {"JOBCAST_HTTP_HOST": host, "JOBCAST_HTTP_PORT": str(port)} | self._authority(number)
        if self.layout.redis_reader_url is not None:
            env["JOBCAST_REDIS_URL"] = self.layout.redis_reader_url
        command = self._command(f"api-{number}", "api", env)
        scheme = "https" if self.layout.tls or self.layout.certificates else "http"
        return Replica(self._keeper, command, f"{scheme}://{reachable(host)}:{port}")

    def _authority(self, number: int) -> dict[str, str]:
        """RabbitMQ knows one address to ask at: the first replica's."""
        layout, env = self.layout, dict[str, str]()
        if layout.management_url is not None:
            env["JOBCAST_MANAGEMENT_URL"] = layout.management_url
        if number > 1:
            env["JOBCAST_AUTHORITY_PORT"] = ""  # nor any from our own environment
        elif layout.authority_port is not None:
            env["JOBCAST_AUTHORITY_PORT"] = str(layout.authority_port)
            env["JOBCAST_AUTHORITY_TLS"] = str(layout.certificates is not None)
        return env

    @property
    def _certified(self) -> Mapping[str, str]:
        certificates = self.layout.certificates
        if certificates is None:
            return {}
        return {
            "JOBCAST_TLS_CERT": str(certificates.cert),
            "JOBCAST_TLS_KEY": str(certificates.key),
            **certificates.environment,
        }

    def _command(self, name: str, module: str, env: Mapping[str, str]) -> Command:
        layout = self.layout
        return Command(
            name=name,
            args=[sys.executable, "-m", module],
            log=layout.folder / f"{name}.log",
            env=python_environment()
            | {
                "JOBCAST_AMQP_URL": layout.amqp_url,
                "JOBCAST_REDIS_URL": layout.redis_url,
                "JOBCAST_USERS_FILE": str(layout.users_file),
                **self._certified,
                **layout.env,
                **env,
            },
        )


def python_environment() -> dict[str, str]:
    """Ours, for a Python that finds our packages, and not others of their names where we stand."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def reachable(host: str) -> str:
    """Where a server that listens on this host can be reached from here, as part of a URL."""
    if host in {"", "0.0.0.0"}:  # noqa: S104 - compared, not bound
        return LOOPBACK
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
