"""Receiving commands, on whatever link there is.

Owns a queue at the broker while a link serves. Promises that commands for the operations wanted
are received before `ready` returns, or else that it has said once in the log why they are not; that
it comes back by itself; and that `renewed` is called whenever commands may have been missed. Never
keeps events from being sent for longer than some seconds.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Never

from jobcast.backoff import delay_after
from jobcast.cancellation import is_to_end
from jobcast.link import Ear, Link, LinkLost
from jobcast.names import ANY_OPERATION, cancels_of

log = logging.getLogger(__name__)

OPERATIONS_MAX: Final = 200
"""With more of them, the commands of all operations are received."""
CAP_S: Final = 60.0
"""Between two tries: each refusal is a line in somebody's audit log."""
PATIENCE: Final = 2
"""The first failure may be a link that is about to be found dead; the next is worth a word."""


class Listener:
    """`run` listens on one link until cancelled."""

    def __init__(
        self, user: str, *, heard: Callable[[bytes], None], renewed: Callable[[], None]
    ) -> None:
        self._user = user
        self._heard = heard
        self._renewed = renewed
        self._wanted: set[str] = set()
        self._bound: set[str] = set()
        self._deaf = False  # commands cannot be received now; events go out all the same
        self._changed = asyncio.Event()
        self._failures = 0

    def want(self, operation: str) -> None:
        """Receive the commands of this operation, from now on."""
        if operation in self._wanted or ANY_OPERATION in self._wanted:
            return
        if len(self._wanted) < OPERATIONS_MAX:
            self._wanted.add(operation)
        else:
            self._wanted = {ANY_OPERATION}
        self._changed.set()

    async def ready(self) -> None:
        """Waits until what is wanted is received, or cannot be."""
        while not (self._deaf or self._wanted <= self._bound):
            await self._change()

    async def run(self, link: Link) -> Never:
        try:
            while True:
                while not self._wanted:
                    await self._change()
                try:
                    await self._listen(link)
                except LinkLost as error:
                    self._failed(error)
                if is_to_end():
                    raise asyncio.CancelledError
                await asyncio.sleep(delay_after(self._failures, cap_s=CAP_S))
        finally:
            self._bound.clear()
            self._deaf = False

    async def _listen(self, link: Link) -> Never:
        """Raises LinkLost; the link itself may be in order."""
        ear: Ear
        async with link.listening(self._user, self._heard, self._changed.set) as ear:
            await self._bind(ear)
            self._succeeded()
            while True:
                ear.check()
                if self._wanted <= self._bound:
                    await self._change()
                await self._bind(ear)

    async def _bind(self, ear: Ear) -> None:
        while new := self._wanted - self._bound:
            for operation in new:
                await ear.bind(cancels_of(operation))
                self._bound.add(operation)
        self._changed.set()

    def _succeeded(self) -> None:
        """No await between the last binding and this: what was sent before is asked for again."""
        self._deaf = False
        if self._failures >= PATIENCE:
            log.warning("commands are received again")
        self._failures = 0
        self._renewed()

    def _failed(self, error: LinkLost) -> None:
        self._bound.clear()
        self._deaf = True
        self._changed.set()
        self._failures += 1
        if self._failures == PATIENCE:
            log.warning("jobs do not learn now that they are to be canceled: %s", error)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
