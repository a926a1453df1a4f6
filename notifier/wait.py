"""Waiting for one job: what a long poll hangs on. Costs Redis nothing while it waits."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from jobcast.job import Job
from notifier.listener import Item, Listener
from notifier.reader import Reader
from notifier.store import Gone, Snapshot

PROGRESS_AFTER_S: Final = 1.0
_JOB: Final = msgspec.json.Decoder(Job)


async def wait_job(
    reader: Reader,
    owner: str,
    job_id: str,
    *,
    seen: Callable[[int], bool] | None,
    timeout_s: float,
) -> Snapshot | Gone | None:
    """The job as soon as it has ended or, with `seen`, has a version that is not `seen`.

    A change of progress alone counts after a second only. At the time-out, and when the hub
    drains: as it is then. Gone: at once. Raises `StoreUnavailable`.
    """
    with reader.hub.listen(owner, job_id) as listener:
        await listener.ready()
        listener.attach()
        wait = _Wait(await reader.store.read(owner, job_id), seen)
        try:
            async with asyncio.timeout(timeout_s):
                while not wait.over and not reader.hub.draining:
                    if listener.lost:
                        listener.attach()
                        wait.again(await reader.store.read(owner, job_id))
                    else:
                        await wait.take(listener)
        except TimeoutError:
            pass
        return wait.found


class _Wait:
    """What is known of the job, and whether that is an answer."""

    def __init__(self, found: Snapshot | Gone | None, seen: Callable[[int], bool] | None) -> None:
        self.found = found
        self._seen = seen
        self._progress_at = asyncio.get_running_loop().time() + PROGRESS_AFTER_S
        self.over = self._answers()

    def again(self, found: Snapshot | Gone | None) -> None:
        """It was read anew; of what is not its end, `take` sees whether it has come too soon."""
        self.found = found
        self.over = self._final()

    async def take(self, listener: Listener) -> None:
        """The next changes; of progress alone the answer waits a while for something better."""
        early = self._answers()  # but by progress alone, or it would be over
        try:
            async with asyncio.timeout_at(self._progress_at if early else None):
                items = await listener.take(float("inf"))
        except TimeoutError:
            if asyncio.get_running_loop().time() < self._progress_at:
                raise  # the caller's time is up, not ours
            self.over = True
            return
        for item in items:
            self._note(item)
        patient = all(item.progress for item in items)
        late = asyncio.get_running_loop().time() >= self._progress_at
        self.over = self._answers() and (not patient or late)

    def _note(self, item: Item) -> None:
        if item.event == "deleted":
            self.found = Gone(deleted=True)
            return
        newer = self.found is None or (
            isinstance(self.found, Snapshot) and self.found.version < item.version
        )
        if item.body and newer:
            self.found = Snapshot(item.version, item.body)

    def _answers(self) -> bool:
        if not isinstance(self.found, Snapshot) or self._final():
            return self.found is not None
        return self._seen is not None and not self._seen(self.found.version)

    def _final(self) -> bool:
        found = self.found
        return found is not None and (isinstance(found, Gone) or _JOB.decode(found.body).ended)
