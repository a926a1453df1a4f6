"""A private RabbitMQ node: own data folder, ports, cookie, node name and epmd, on loopback only.

Owns: the files below its folder, one Erlang VM and one epmd.
Promises: needs no root, starts no system service, leaves no process behind, keeps its data.
Never: touches another node's files, or an epmd that it has not started.
Right for RabbitMQ 3.10 to 4.x.
"""

import os
import secrets
import ssl
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from deploy.certificates import Certificates
from deploy.guard import (
    GUARD_PLUGINS,
    SERVICE,
    Doors,
    asking,
    definitions,
    drop_guest,
    listening,
    trusting,
)
from deploy.installed import ERLANG, find_epmd, find_server
from deploy.process import (
    LOOPBACK,
    Child,
    Command,
    Keeper,
    StartFailure,
    answers,
    claim_port,
    clean_environment,
    free_port,
)
from deploy.restartable import Restartable
from deploy.secrets import kept_secret, write_secret

MESSAGE_BYTES_MAX: Final = 1_048_576
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 6.0
STARTS: Final = 3
PLUGINS: Final = ("rabbitmq_consistent_hash_exchange",)

# The data belongs to the node's name, so the name must not depend on a port.
NODE: Final = "jobcast@localhost"

AMQP_GREETING: Final = b"AMQP\x00\x00\x09\x01"
CONNECTION_START: Final = b"\x00\x0a\x00\x0a"  # class 10, method 10


class RabbitMQNode(Restartable):
    """`with RabbitMQNode(folder) as node: node.url`. It comes back on the same port with its
    durable queues."""

    name = "RabbitMQ"

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        plugins: Sequence[str] = PLUGINS,
        doors: Doors | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.plugins = (*plugins, *(GUARD_PLUGINS if doors else ()))
        self.port = port  # 0 until the first start has chosen one
        self.stomp_port = doors.stomp_port if doors else 0
        self.management_port = doors.management_port if doors else 0
        self._doors = doors
        self._certificates = certificates
        self._keeper: Keeper | None = None
        self._epmd: Child | None = None
        self._epmd_port = 0

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.alive else "down"
        return f"<RabbitMQNode port {self.port} {state}>"

    @property
    def url(self) -> str:
        """With the service's own login."""
        return self.url_at(self.port)

    def url_at(self, port: int, user: str = SERVICE, password: str | None = None) -> str:
        """To this node through another port, or as another user."""
        secret = self._password if password is None else password
        login = f"{quote(user, safe='')}:{quote(secret, safe='')}"
        return f"{'amqps' if self._certificates else 'amqp'}://{login}@{LOOPBACK}:{port}/"

    def url_of(self, user: str, token: str) -> str:
        return self.url_at(self.port, user, token)

    @property
    def login(self) -> tuple[str, str]:
        """The service's own."""
        return SERVICE, self._password

    @property
    def management_url(self) -> str:
        """Only with doors; the login is that of `url`."""
        return f"{'https' if self._certificates else 'http'}://{LOOPBACK}:{self.management_port}"

    @cached_property
    def _password(self) -> str:
        """Made once, and kept beside the data that it opens."""
        return kept_secret(self.folder / "service-password")

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that this node consists of."""
        return tuple(child.pid for child in (self._child, self._epmd) if child and child.alive)

    def start(self) -> None:
        """Returns when AMQP connections are accepted. Raises StartFailure, PortTaken."""
        if self.alive:
            return
        server = find_server()
        if server is None:
            raise StartFailure("rabbitmq-server is not installed")
        self.port = claim_port(self.port)
        if self._doors:
            self.stomp_port = claim_port(self.stomp_port)
            self.management_port = claim_port(self.management_port)
        self._keeper = self._keeper or Keeper()
        try:
            self._start_once_more(server, self._keeper)
        except BaseException:
            self.stop()
            raise

    def _start_once_more(self, server: str, keeper: Keeper) -> None:
        """Erlang's ports are of no interest to anybody, and were free when they were chosen: where
        somebody else was faster, others are."""
        for _ in range(STARTS - 1):
            try:
                return self._start(server, keeper)
            except StartFailure:
                if self.alive:
                    raise
        return self._start(server, keeper)

    def stop(self) -> None:
        """Ends the node gracefully (killing what does not end), then its epmd."""
        if self._child is not None:
            self._child.stop(STOP_TIMEOUT_S)
        if self._keeper is not None:
            self._keeper.close()
        self._keeper = self._child = self._epmd = None

    def _start(self, server: str, keeper: Keeper) -> None:
        if self._epmd is None or not self._epmd.alive:
            # In the foreground: an epmd that Erlang starts by itself is a daemon with an id that
            # nobody tells us.
            self._epmd_port = free_port()
            args = [find_epmd(), "-port", str(self._epmd_port), "-address", LOOPBACK]
            log = self.folder / "log" / "epmd.log"
            # A pre-set ERL_EPMD_* of the user would win over the arguments.
            env = clean_environment("ERL_", "RABBITMQ_")
            self._epmd = keeper.spawn(Command(name="epmd", args=args, log=log, env=env))
        env = self._write_files()
        log = self.folder / "log" / "start.log"
        command = Command(name=self.name, args=[server], env=env, log=log, cwd=self.folder)
        self._child = keeper.spawn(command)
        self._child.wait_until(self._accepts, START_TIMEOUT_S)
        if self._doors:
            self._child.wait_until(
                lambda: drop_guest(self.management_url, self.login, self._tls), START_TIMEOUT_S
            )

    def _accepts(self) -> bool:
        return answers(self.port, AMQP_GREETING, CONNECTION_START, self._tls)

    @property
    def _tls(self) -> ssl.SSLContext | None:
        return self._certificates.context() if self._certificates else None

    def _write_files(self) -> dict[str, str]:
        """Writes the node's configuration; the answer is its environment."""
        home = self.folder / "home"
        for folder in (home, self.folder / "data", self.folder / "log"):
            folder.mkdir(parents=True, exist_ok=True)
        _write_cookie(home / ".erlang.cookie")
        plugins = self.folder / "enabled_plugins"
        plugins.write_text(f"[{','.join(self.plugins)}].\n")
        held = self.folder / "definitions.json"
        held.unlink(missing_ok=True)
        write_secret(held, definitions(self._password), 0o600)
        (self.folder / "rabbitmq.conf").write_text("\n".join(self._configuration()) + "\n")
        advanced = self.folder / "advanced.config"
        advanced.write_text(trusting(self._certificates if self._doors else None))
        environment_file = self.folder / "rabbitmq-env.conf"
        environment_file.touch()
        return clean_environment("RABBITMQ_", "ERL_", "NOTIFY_SOCKET", "CONF_ENV_FILE") | {
            "HOME": str(home),
            "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), *ERLANG]),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": str(environment_file),  # not the system's
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(advanced),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder / "data" / "config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            # epmd runs already, and the node itself must not be seen from outside either.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"
                # Idle schedulers sleep at once instead of waiting busily for a while.
                " +sbwt none +sbwtdcpu none +sbwtdio none"
            ),
            # Lets the script exec Erlang instead of waiting for it in a shell: the process we start
            # is the node, and our signals reach it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _configuration(self) -> list[str]:
        lines = [
            *listening(self.port, self._certificates),
            f"load_definitions = {self.folder / 'definitions.json'}",
            f"max_message_size = {MESSAGE_BYTES_MAX}",
            # Bindings are recovered one after another: docs/operations.md, Partitions.
            "default_worker_pool_size = 1",
            "disk_free_limit.absolute = 50MB",
            "log.file = rabbitmq.log",
            "log.file.level = warning",
            "log.console = false",
        ]
        if self._doors is None:
            return [*lines, "collect_statistics = none"]
        doors = msgspec.structs.replace(
            self._doors, stomp_port=self.stomp_port, management_port=self.management_port
        )
        return [*lines, *asking(doors, self._certificates)]


def _write_cookie(path: Path) -> None:
    """Erlang refuses a cookie that others can read."""
    if not path.exists():
        write_secret(path, secrets.token_hex(16), 0o400)
