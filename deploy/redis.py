"""A private Redis (or Valkey) server on loopback that has every answered write on disk.

Owns: the files below its folder and one server process.
Promises: a write that was answered survives `kill`; nothing is ever evicted.
Never: runs as a daemon or touches another server.
"""

import shutil
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Final

from deploy.certificates import Certificates
from deploy.process import (
    LOOPBACK,
    Command,
    Keeper,
    StartFailure,
    answers,
    claim_port,
)
from deploy.restartable import Restartable
from deploy.secrets import kept_secret

START_TIMEOUT_S: Final = 30.0
READER: Final = "jobcast-api"
"""The login of the API, which reads jobs and changes none. The notifier's is the default user."""
READER_RIGHTS: Final = (
    *("%R~jobcast:*", "%RW~jobcast:secret", "&jobcast:*"),
    *("+@read", "+@connection", "-@dangerous", "+info", "+multi", "+exec"),
    *("+subscribe", "+unsubscribe", "+set"),
)
"""`jobcast:secret` is the key of sessions, which any replica may make. No right to publish: what is
heard on a channel comes from a commit. The same words stand in docker-compose.yml."""
STOP_TIMEOUT_S: Final = 2.0


def find_server() -> str | None:
    return shutil.which("redis-server") or shutil.which("valkey-server")


class RedisNode(Restartable):
    """`with RedisNode(folder) as node: node.url`."""

    name = "Redis"

    def __init__(
        self, folder: Path, *, port: int = 0, certificates: Certificates | None = None
    ) -> None:
        self.folder = folder.absolute()
        self.port = port  # 0 until the first start has chosen one
        self._certificates = certificates
        self._keeper: Keeper | None = None

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.alive else "down"
        return f"<RedisNode {self.url} {state}>"

    @property
    def url(self) -> str:
        scheme = "rediss" if self._certificates else "redis"
        return f"{scheme}://{LOOPBACK}:{self.port}/0"

    @property
    def reader_url(self) -> str:
        """With the rights of the API."""
        return self.reader_url_at(self.port)

    def reader_url_at(self, port: int) -> str:
        """To this server through another port."""
        scheme = "rediss" if self._certificates else "redis"
        return f"{scheme}://{READER}:{self._reader_password}@{LOOPBACK}:{port}/0"

    @cached_property
    def _reader_password(self) -> str:
        return kept_secret(self.folder / "reader-password")

    @property
    def pids(self) -> tuple[int, ...]:
        return (self.pid,) if self.alive else ()

    def start(self) -> None:
        """Returns when commands are answered. Raises StartFailure, PortTaken."""
        if self.alive:
            return
        server = find_server()
        if server is None:
            raise StartFailure("neither redis-server nor valkey-server is installed")
        self.port = claim_port(self.port)
        self._keeper = self._keeper or Keeper()
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "redis.log"
        command = Command(name=self.name, args=self._arguments(server), log=log, cwd=self.folder)
        try:
            self._child = self._keeper.spawn(command)
            # While it still reads its data it answers PING with an error.
            tls = self._certificates.context() if self._certificates else None
            self._child.wait_until(
                lambda: answers(self.port, b"PING\r\n", b"+PONG", tls), START_TIMEOUT_S
            )
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop(STOP_TIMEOUT_S)
        if self._keeper is not None:
            self._keeper.close()
        self._keeper = self._child = None

    def _arguments(self, server: str) -> list[str]:
        settings = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "dir": str(self.folder),
            "pidfile": str(self.folder / "pid"),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",  # a commit is on disk before its message is acked
            "maxmemory-policy": "noeviction",
        }
        if self._certificates is not None:
            settings |= {
                "port": "0",
                "tls-port": str(self.port),
                "tls-cert-file": str(self._certificates.cert),
                "tls-key-file": str(self._certificates.key),
                "tls-ca-cert-file": str(self._certificates.ca),
                "tls-auth-clients": "no",  # it has no passwords to protect; its port is loopback's
            }
        return [
            server,
            *(part for name, value in settings.items() for part in (f"--{name}", value)),
            *("--user", READER, "on", f"#{self._reader_hash}", *READER_RIGHTS),
        ]

    @property
    def _reader_hash(self) -> str:
        """Command lines can be read by everybody on the machine."""
        return sha256(self._reader_password.encode()).hexdigest()
