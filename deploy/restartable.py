"""What all that we start has in common: it comes back as it was."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from deploy.process import Child


class Startable(ABC):
    """Runs in a `with` block, or from `start` to `stop`. Blocking on purpose: it serves plain
    scripts and synchronous fixtures alike."""

    @abstractmethod
    def start(self) -> None:
        """Returns when it is ready; nothing happens if it runs. Raises StartFailure."""

    @abstractmethod
    def stop(self) -> None:
        """Ends it gracefully, killing what does not end."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Restartable(Startable):
    """A server or service. After `kill` or `stop`, `start` brings it back."""

    name: str
    _child: Child | None = None

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.alive

    @property
    def pid(self) -> int:
        return self._running.pid

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL: what a crash or a loss of power does."""
        self._running.kill()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self._running.pause()

    def resume(self) -> None:
        self._running.resume()

    @property
    def _running(self) -> Child:
        if self._child is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._child
