"""The state service: take a batch → fold → commit → notify → ack. This file has the middle.

Owns the order of the steps. Promises: `process` returns only when every event of the batch is
stored (or changes nothing, or is a confirmed dead letter) and every notification it owes is
confirmed, or was given up after three refusals. Cut off anywhere, the same batch may come again.
Never acknowledges anything itself; knows neither RabbitMQ nor a clock.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from random import uniform
from typing import Final

from jobcast.change import State, Verdict, reference
from jobcast.errors import JobcastError
from jobcast.events import Commented, Event, Recorded
from jobcast.fold import advance
from jobcast.job import Status
from jobcast.malformed import fingerprint
from jobcast.message import Incoming
from jobcast.notification import Notice, command
from notifier.commit import Committer
from notifier.connection import StoreRefused, StoreUnavailable
from notifier.figures import Figures
from notifier.folding import Folded, JobKey, LiveJobs, applied, fold
from notifier.letters import (
    Rules,
    Telling,
    dead_letter,
    read_batch,
    rejected_letter,
    repeats,
    sent_again,
    tellings_of,
)
from notifier.plan import Plan
from notifier.poison import BEGUN_MAX, TRIES, groups, parts, poisoned, suspect, unreadable
from notifier.store import Held, Store
from notifier.telling import Publish, insist, tell

log = logging.getLogger(__name__)

RENEW_S: Final = 60.0
OWNERS_MAX: Final = 10_000
RETRY_MAX_S: Final = 2.0
FAULT_DELAY_S: Final = 0.5
PORTION: Final = 50
WORKERS: Final = 3


Pending = Mapping[JobKey, Sequence[Event]]


class Fault(Exception):
    """Our own code has failed on an event; the cause says how."""


class StateService:
    """One for all partitions of a process; each partition brings its own `LiveJobs`."""

    def __init__(
        self,
        store: Store,
        committer: Committer,
        rules: Rules,
        clock: Callable[[], int],
        figures: Figures | None = None,
    ) -> None:
        self._store = store
        self._committer = committer
        self._rules = rules
        self._clock = clock
        self._figures = figures or Figures()
        self._renewed: dict[str, float] = {}

    @property
    def user(self) -> str:
        return self._rules.user

    async def process(self, batch: Sequence[Incoming], live: LiveJobs, publisher: Publish) -> None:
        """Everything between taking a batch and acknowledging it. Raises NoQueue, and what
        `publisher` raises."""
        for group in groups(batch):
            if suspect(group[0]):
                for part in parts(group[0]):
                    await self._guarded(part, live, publisher)
            else:
                await self._apply(group, live, publisher)

    async def _guarded(self, message: Incoming, live: LiveJobs, publisher: Publish) -> None:
        """A message that may be what has ended the process again and again."""
        name = fingerprint(message.body, message.headers)
        begun = await self._begun(name)
        try:
            if begun <= BEGUN_MAX:
                await self._apply([message], live, publisher)
            else:
                why = f"the process has ended {begun - 1} times while this was being applied"
                log.error("poison: %s", why)
                await insist([dead_letter(unreadable(message, why))], publisher, self._figures)
        finally:
            with suppress(StoreUnavailable):
                await self._store.over(name)  # well or badly: the process is there to say so

    async def _begun(self, name: str) -> int:
        while True:
            try:
                return await self._store.begun(name)
            except StoreUnavailable as error:
                log.warning("the batch waits: %s", error)
                await asyncio.sleep(uniform(0, RETRY_MAX_S))  # noqa: S311

    async def _apply(self, batch: Sequence[Incoming], live: LiveJobs, publisher: Publish) -> None:
        read = read_batch(batch, self._rules)
        self._figures.read(sum(map(len, read.events.values())))
        dead = [dead_letter(malformed) for malformed in read.malformed]
        await insist(dead + sent_again(read.elsewhere, self._rules.user), publisher, self._figures)
        portions = _portions(read.events)

        async def work() -> None:
            for portion in portions:
                await self._settle(portion, live, publisher)

        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(WORKERS):
                    workers.create_task(work())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _settle(self, pending: Pending, live: LiveJobs, publisher: Publish) -> None:
        """Some jobs of the batch, to the end of the promise.

        If our own code fails on one of the events, each alone, in order, shows on which. What was
        committed before the failure comes again then as a repeat.
        """
        try:
            await self._rounds(pending, live, publisher)
        except Fault:
            for key, events in pending.items():
                for event in events:
                    await self._alone(key, event, live, publisher)

    async def _alone(self, key: JobKey, event: Event, live: LiveJobs, publisher: Publish) -> None:
        cause: BaseException | None = None
        for _ in range(TRIES):
            try:
                await self._rounds({key: [event]}, live, publisher)
            except Fault as fault:
                cause = fault.__cause__
                await asyncio.sleep(uniform(0, FAULT_DELAY_S))  # noqa: S311
            else:
                return
        log.error("poison: %s of job %s", event.type, event.job_id, exc_info=cause)
        await insist([rejected_letter(poisoned(event, cause))], publisher, self._figures)

    async def _rounds(self, pending: Pending, live: LiveJobs, publisher: Publish) -> None:
        """Raises Fault if it is our own code that fails."""
        failures = 0
        while pending:
            try:
                pending = await self._round(pending, live, publisher)
                failures = 0
            except JobcastError as error:
                for key in pending:
                    live.forget(key)  # what became of the commits is not known
                if isinstance(error, StoreRefused):
                    raise Fault from error
                if not isinstance(error, StoreUnavailable):
                    raise  # the connection is lost, and the batch with it
                failures += 1
                self._figures.waited()
                log.warning("the batch waits: %s", error)
                await asyncio.sleep(uniform(0, min(RETRY_MAX_S, 0.05 * 2 ** min(failures, 10))))  # noqa: S311
            except Exception as error:
                for key in pending:
                    live.forget(key)
                raise Fault from error

    async def _round(self, pending: Pending, live: LiveJobs, publisher: Publish) -> Pending:
        """One commit of every job; what is left over for the next."""
        now = self._clock()
        held = await self._held(list(pending), live)
        seen = await self._seen(pending)

        def judge(state: State | None, event: Event, repeated: bool) -> Verdict:
            known = repeated or (bool(seen) and _ref(event) in seen)
            return advance(state, event, now, retention_s=self._rules.retention_s, seen=known)

        folds = [fold(key, held[key], events, judge) for key, events in pending.items()]
        # Before the commit, which may be the last to know of the oldest of them.
        await tell(
            [told for folded in folds for told in repeats(folded, self._rules)],
            publisher,
            self._figures,
        )
        tellings: list[Telling] = []
        planned = [folded for folded in folds if folded.plan is not None]
        lost = await self._commit(planned, now, live, tellings)
        rejected = [rejected_letter(one) for folded in folds for one in folded.rejected]
        await insist(rejected, publisher, self._figures)
        await tell(tellings, publisher, self._figures)
        left = {folded.key: folded.left for folded in folds if folded.left}
        return left | {key: pending[key] for key in lost}

    async def _held(self, keys: list[JobKey], live: LiveJobs) -> dict[JobKey, Held]:
        known = {key: held for key in keys if (held := live.get(key)) is not None}
        unknown = [key for key in keys if key not in known]
        if unknown:
            found = dict(zip(unknown, await self._store.hold(unknown), strict=True))
            for key, held in found.items():
                if held.state is not None:
                    live.put(key, held)
            known |= found
        return known

    async def _seen(self, pending: Pending) -> set[tuple[str, str, str]]:
        asked = [
            _ref(event)
            for events in pending.values()
            for event in events
            if isinstance(event, Recorded | Commented)
        ]
        if not asked:
            return set()
        answers = await self._store.seen(asked)
        return {ref for ref, stored in zip(asked, answers, strict=True) if stored}

    async def _commit(
        self, folds: Sequence[Folded], now: int, live: LiveJobs, tellings: list[Telling]
    ) -> list[JobKey]:
        """Commit the plans; the jobs whose version has moved meanwhile come back."""
        plans = [folded.plan for folded in folds if folded.plan is not None]
        if not plans:
            return []
        began = time.perf_counter()
        answers = await self._committer.commit(plans, now, self._due(plans))
        seconds = time.perf_counter() - began
        lost: list[JobKey] = []
        changes = 0
        for folded, plan, cursors in zip(folds, plans, answers, strict=True):
            if cursors is None:
                live.forget(folded.key)
                lost.append(folded.key)
                folded.left, folded.rejected = (), []
                continue
            changes += len(plan.steps)
            after = applied(folded.held, plan, cursors)
            live.put(folded.key, after)
            tellings += tellings_of(plan, after, cursors, self._rules)
            if folded.command and after.state and after.state.job.status is Status.CANCEL_PENDING:
                notice = Notice(job=after.state.job, snapshot=b"", event="cancel", cursor="")
                tellings.append(Telling([command(notice)], None))
        self._figures.committed(len(plans) - len(lost), seconds, changes)
        if lost:
            self._figures.conflicted(len(lost))
        return lost

    def _due(self, plans: Sequence[Plan]) -> frozenset[str]:
        """The owners whose keys' TTL is to be renewed: each once a minute."""
        loop_time = asyncio.get_running_loop().time()
        due = {
            plan.owner
            for plan in plans
            if loop_time - self._renewed.get(plan.owner, -RENEW_S) >= RENEW_S
        }
        if len(self._renewed) > OWNERS_MAX:
            self._renewed.clear()
        self._renewed |= dict.fromkeys(due, loop_time)
        return frozenset(due)


def _portions(events: Mapping[JobKey, Sequence[Event]]) -> Iterator[dict[JobKey, Sequence[Event]]]:
    """The jobs of a batch, a few at a time: while Redis and RabbitMQ are at work on some, the next
    are folded. More at a time in a large batch: a slow Redis is asked fewer times. All events of a
    job are in one portion, so its order is kept."""
    jobs = iter(events.items())
    size = max(PORTION, len(events) // (2 * WORKERS))
    while portion := dict(islice(jobs, size)):
        yield portion


def _ref(event: Event) -> tuple[str, str, str]:
    return event.owner, event.job_id, reference(event)
