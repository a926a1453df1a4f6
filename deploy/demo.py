"""Real commands that `scripts/up --demo` runs as jobs of alice's, again and again."""

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

import msgspec

from deploy.process import Child, Command, Keeper
from deploy.stack import Layout, python_environment

DEMO_STOP_S: Final = 1.5


class DemoJob(msgspec.Struct, frozen=True):
    operation: str
    name: str
    args: tuple[str, ...]
    pause_s: float


DEMO: Final = (
    DemoJob(
        "pack", "compress generated files", (sys.executable, "-m", "deploy.demo_work", "pack"), 10
    ),
    DemoJob(
        "verify", "find a damaged file", (sys.executable, "-m", "deploy.demo_work", "verify"), 25
    ),
    DemoJob("system-name", "what runs here", ("uname", "-a"), 15),
)


class Demo:
    """Runs each command as a job of alice's, waits a little after its end, and runs it again."""

    def __init__(self, layout: Layout, keeper: Keeper) -> None:
        self._layout = layout
        self._keeper = keeper
        self._running: dict[DemoJob, Child] = {}
        self._due = dict.fromkeys(DEMO, 0.0)

    def look(self, now: float) -> None:
        for job in DEMO:
            running = self._running.get(job)
            if running is None and now >= self._due[job]:
                self._running[job] = self._keeper.spawn(self._command(job))
            elif running is not None and not running.alive:
                del self._running[job]
                self._due[job] = now + job.pause_s

    def stop(self) -> None:
        for child in self._running.values():
            child.terminate()
        deadline = time.monotonic() + DEMO_STOP_S
        for child in self._running.values():
            child.stop(max(0.0, deadline - time.monotonic()))

    def _command(self, job: DemoJob) -> Command:
        certificates = self._layout.certificates
        run = (sys.executable, "-m", "jobcast.cli", "run", "--owner", "alice", "--name", job.name)
        return Command(
            name=f"demo {job.operation}",
            args=[*run, "--operation", job.operation, "--", *job.args],
            log=self._layout.folder / "demo.log",
            env=python_environment()
            | {"JOBCAST_AMQP_URL": self._layout.amqp_url}
            | dict(certificates.environment if certificates else {}),
        )


@contextmanager
def demonstration(layout: Layout) -> Iterator[Demo]:
    with closing(Keeper()) as keeper:
        demo = Demo(layout, keeper)
        try:
            yield demo
        finally:
            demo.stop()
