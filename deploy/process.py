"""Processes that we start and that must not outlive us.

Owns: starting, watching, signalling and ending of child processes, and choosing ports for them.
Promises: every child is ended with its keeper, also when this process is killed with SIGKILL.
Never: touches a process that it has not started.
"""

import errno
import os
import secrets
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"

# Below the range from which Linux, macOS and Windows take the ports of outgoing connections: a port
# from that range can be taken by a client while its server restarts (even by the very client that
# tries to reconnect, which then talks to itself).
FREE_PORTS: Final = range(15000, 32000)

# The guard leads the process group of all children. When the last copy of its standard input's
# other end is closed, by a tidy stop or by our sudden death, it ends the group. It needs no process
# id for that, so it can never hit a stranger, and unlike PR_SET_PDEATHSIG it does not mind which
# thread has started a child, and works on macOS.
GUARD: Final = (
    "trap '' HUP INT TERM; read -r line; kill -TERM 0; kill -CONT 0; sleep 8; kill -KILL 0"
)


class StartFailure(RuntimeError):
    """A process did not come up; the text is one line for people, then the end of its log."""


class PortTaken(StartFailure):
    """The wanted port is in use."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} on {LOOPBACK} is in use")
        self.port = port


def free_port() -> int:
    """A port on the loopback interface that nobody uses at this moment."""
    for _ in range(100):
        # Not from `random`: test runners seed that, and processes with one seed would all choose
        # the same ports at the same time.
        port = secrets.choice(FREE_PORTS)
        if not _taken(port):
            return port
    raise StartFailure(f"no free port between {FREE_PORTS.start} and {FREE_PORTS.stop}")


def claim_port(port: int) -> int:
    """The port itself, or any free one for 0. Raises PortTaken."""
    if port == 0:
        return free_port()
    if _taken(port):
        raise PortTaken(port)
    return port


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections of the past that linger are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return True
            raise
    return False


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run, and where its output goes (appended)."""

    name: str
    args: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = None  # None: ours
    cwd: Path | None = None


@dataclass(kw_only=True)
class Child:
    """One running process. Its signals go to this process alone."""

    command: Command
    popen: subprocess.Popen[bytes]
    _paused: bool = field(default=False, init=False)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self.popen.poll()

    def terminate(self) -> None:
        """Asks it to end; does not wait."""
        self.popen.terminate()
        self.resume()

    def stop(self, timeout_s: float = 10) -> None:
        """Asks it to end, waits, and kills it when it does not."""
        self.terminate()
        try:
            self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def pause(self) -> None:
        """SIGSTOP; returns when the process, with all its threads, stands still."""
        self.popen.send_signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):  # not on every macOS
            os.waitid(os.P_PID, self.popen.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self.popen.send_signal(signal.SIGCONT)
            self._paused = False

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Raises StartFailure if the process ends first or is not ready in time."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.require_alive()
            if time.monotonic() > deadline:
                raise StartFailure(self._explain(f"is not ready after {timeout_s:.0f} s"))
            time.sleep(0.05)

    def require_alive(self) -> None:
        """Raises StartFailure with the end of its log."""
        if not self.alive:
            raise StartFailure(self._explain(f"ended with exit code {self.exit_code}"))

    def _explain(self, what: str) -> str:
        return f"{self.command.name} {what}; see {self.command.log}\n{_tail(self.command.log)}"


def _tail(log: Path, lines: int = 15) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


class Keeper:
    """Keeps children: when it is closed or this process dies, by whatever means, so do they."""

    def __init__(self) -> None:
        self._guard = self._start_guard()
        self._children: list[Child] = []

    def spawn(self, command: Command) -> Child:
        if self._guard.poll() is not None:
            self._guard = self._start_guard()
        self._children = [child for child in self._children if child.alive]
        command.log.parent.mkdir(parents=True, exist_ok=True)
        with command.log.open("ab") as log:
            popen = subprocess.Popen(
                command.args,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=command.env,
                cwd=command.cwd,
                process_group=self._guard.pid,  # so a Ctrl-C at the terminal reaches us alone
            )
        child = Child(command=command, popen=popen)
        self._children.append(child)
        return child

    def close(self) -> None:
        """Ends what still runs, last started first. The keeper can be used again afterwards."""
        for child in reversed(self._children):
            child.stop()
        self._children = []
        self._guard.kill()
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait()

    @staticmethod
    def _start_guard() -> subprocess.Popen[bytes]:
        return subprocess.Popen(["/bin/sh", "-c", GUARD], stdin=subprocess.PIPE, process_group=0)


def answers(port: int, request: bytes, expected: bytes, tls: ssl.SSLContext | None = None) -> bool:
    """Whether the server on a local port answers these bytes with something holding those."""
    try:
        with ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection((LOOPBACK, port), timeout=1))
            if tls is not None:
                connection = stack.enter_context(
                    tls.wrap_socket(connection, server_hostname=LOOPBACK)
                )
            connection.sendall(request)
            return expected in connection.recv(4096)
    except OSError:
        return False


def clean_environment(*prefixes: str) -> dict[str, str]:
    """Our environment without what could lead a server astray."""
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
