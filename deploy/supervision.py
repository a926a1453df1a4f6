"""Starting again what has died, later each time."""

from typing import Final, Protocol

from deploy.process import StartFailure

RESTART_DELAY_S: Final = 0.5
RESTART_DELAY_MAX_S: Final = 30.0
STEADY_S: Final = 60.0  # so long must a process run until its next death counts as the first


class Part(Protocol):
    """A server or service that can be started again."""

    name: str

    @property
    def alive(self) -> bool: ...

    def start(self) -> None: ...


class Restarts:
    """When a part that died is started again. `now` is a monotonic clock's, in seconds."""

    def __init__(self, part: Part, now: float = 0.0) -> None:
        self.part = part
        self.delay_s = RESTART_DELAY_S  # before the next start
        self._since = now  # of the last start
        self._due: float | None = None

    def look(self, now: float) -> None:
        if self.part.alive:
            self._due = None
        elif self._due is None:
            self._plan(now)
        elif now >= self._due:
            self._start(now)

    def _plan(self, now: float) -> None:
        if now - self._since > STEADY_S:
            self.delay_s = RESTART_DELAY_S
        say(f"{self.part.name} has died; starting it again in {self.delay_s:g} s")
        self._due = now + self.delay_s
        self.delay_s = min(2 * self.delay_s, RESTART_DELAY_MAX_S)

    def _start(self, now: float) -> None:
        self._due = None
        self._since = now
        try:
            self.part.start()
        except StartFailure as error:
            say(str(error))
        else:
            say(f"{self.part.name} is back")


def say(line: str) -> None:
    print(line, flush=True)
