"""The state service: take a batch → fold → commit → notify → ack. This file has the middle.

Owns the order of the steps. Promises: `process` returns only when every event of the batch is
stored (or changes nothing, or is a confirmed dead letter) and every notification it owes is
confirmed, or was given up after three refusals. Cut off anywhere, the same batch may come again.
Never acknowledges anything itself; knows neither RabbitMQ nor a clock.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from random import uniform
from typing import Final, Protocol

from jobcast.change import State, Verdict, reference
from jobcast.events import Commented, Event, Recorded
from jobcast.fold import advance
from jobcast.message import Incoming, Message, Outcome
from jobcast.notification import Notice, command
from notifier.commit import Committer, Plan
from notifier.connection import StoreUnavailable
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
from notifier.store import Held, Store

log = logging.getLogger(__name__)

CONFIRM_TIMEOUT_S: Final = 30.0
TRIES: Final = 3
RENEW_S: Final = 60.0
OWNERS_MAX: Final = 10_000
RETRY_MAX_S: Final = 2.0
PORTION: Final = 50
WORKERS: Final = 3


class Publish(Protocol):
    """What the service needs of a broker."""

    async def publish(self, messages: Sequence[Message], *, timeout_s: float) -> Sequence[Outcome]:
        """The outcome of each; raises when the connection is lost, which ends the batch."""


class StateService:
    """One for all partitions of a process; each partition brings its own `LiveJobs`."""

    def __init__(
        self, store: Store, committer: Committer, rules: Rules, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._committer = committer
        self._rules = rules
        self._clock = clock
        self._renewed: dict[str, float] = {}

    @property
    def user(self) -> str:
        return self._rules.user

    async def process(self, batch: Sequence[Incoming], live: LiveJobs, publisher: Publish) -> None:
        """Everything between taking a batch and acknowledging it."""
        read = read_batch(batch, self._rules)
        dead = [dead_letter(malformed) for malformed in read.malformed]
        await self._insist(dead + sent_again(read.elsewhere, self._rules.user), publisher)
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

    async def _settle(
        self, pending: dict[JobKey, Sequence[Event]], live: LiveJobs, publisher: Publish
    ) -> None:
        """Some jobs of the batch, to the end of the promise."""
        failures = 0
        while pending:
            try:
                pending = await self._round(pending, live, publisher)
                failures = 0
            except StoreUnavailable as error:
                failures += 1
                log.warning("the batch waits: %s", error)
                for key in pending:
                    live.forget(key)  # what became of the commits is not known
                await asyncio.sleep(uniform(0, min(RETRY_MAX_S, 0.05 * 2**failures)))  # noqa: S311

    async def _round(
        self, pending: dict[JobKey, Sequence[Event]], live: LiveJobs, publisher: Publish
    ) -> dict[JobKey, Sequence[Event]]:
        """One commit of every job; what is left over for the next."""
        now = self._clock()
        held = await self._held(list(pending), live)
        seen = await self._seen(pending)

        def judge(state: State | None, event: Event, repeated: bool) -> Verdict:
            known = repeated or (bool(seen) and _ref(event) in seen)
            return advance(state, event, now, retention_s=self._rules.retention_s, seen=known)

        folds = [fold(key, held[key], events, judge) for key, events in pending.items()]
        # Before the commit, which may be the last to know of the oldest of them.
        await self._tell([told for folded in folds for told in repeats(folded)], publisher)
        tellings: list[Telling] = []
        planned = [folded for folded in folds if folded.plan is not None]
        lost = await self._commit(planned, now, live, tellings)
        rejected = [rejected_letter(one) for folded in folds for one in folded.rejected]
        await self._insist(rejected, publisher)
        await self._tell(tellings, publisher)
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

    async def _seen(self, pending: dict[JobKey, Sequence[Event]]) -> set[tuple[str, str, str]]:
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
        answers = await self._committer.commit(plans, now, self._due(plans))
        lost: list[JobKey] = []
        for folded, plan, cursors in zip(folds, plans, answers, strict=True):
            if cursors is None:
                live.forget(folded.key)
                lost.append(folded.key)
                folded.left, folded.rejected = (), []
                continue
            after = applied(folded.held, plan, cursors)
            live.put(folded.key, after)
            tellings += tellings_of(plan, after, cursors, progress=self._rules.amqp_progress)
            if folded.command and after.state is not None:
                notice = Notice(job=after.state.job, snapshot=b"", event="cancel", cursor="")
                tellings.append(Telling([command(notice)], None))
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

    async def _tell(self, tellings: Sequence[Telling], publisher: Publish) -> None:
        """Publish; what is refused is tried three times, then given up and said so."""
        messages = [message for telling in tellings for message in telling.messages]
        for _ in range(TRIES):
            if not messages:
                break
            outcomes = await publisher.publish(messages, timeout_s=CONFIRM_TIMEOUT_S)
            messages = [
                message
                for message, outcome in zip(messages, outcomes, strict=True)
                if outcome is not Outcome.CONFIRMED
            ]
        for message in messages:
            log.error("gave up notification %s: refused %d times", message.message_id, TRIES)
        for telling in tellings:
            if telling.owed is not None:
                telling.owed.settled = True

    async def _insist(self, messages: Sequence[Message], publisher: Publish) -> None:
        """Publish until every message is confirmed: the batch depends on it."""
        delay = 0.05
        while messages:
            outcomes = await publisher.publish(messages, timeout_s=CONFIRM_TIMEOUT_S)
            messages = [
                message
                for message, outcome in zip(messages, outcomes, strict=True)
                if outcome is not Outcome.CONFIRMED
            ]
            if messages:
                log.warning("%d messages for %s refused", len(messages), messages[0].routing_key)
                await asyncio.sleep(delay)
                delay = min(RETRY_MAX_S, delay * 2)


def _portions(events: Mapping[JobKey, Sequence[Event]]) -> Iterator[dict[JobKey, Sequence[Event]]]:
    """The jobs of a batch, a few at a time: while Redis and RabbitMQ are at work on some, the next
    are folded. All events of a job are in one portion, so its order is kept."""
    jobs = iter(events.items())
    while portion := dict(islice(jobs, PORTION)):
        yield portion


def _ref(event: Event) -> tuple[str, str, str]:
    return event.owner, event.job_id, reference(event)
