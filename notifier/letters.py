"""Between messages and the fold: reading a batch, and writing what it leads to.

Pure: values in, messages out. The service decides when they are published.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from jobcast.change import reference
from jobcast.events import Event
from jobcast.job import Job
from jobcast.malformed import Malformed
from jobcast.message import Incoming, Message
from jobcast.names import DEAD, LIFECYCLE
from jobcast.notification import Notice, command, notification
from jobcast.wire import (
    BATCH,
    MESSAGE_MAX,
    STRUCTURED,
    decode,
    encode_batch,
    encode_event,
)
from notifier.folding import Folded, JobKey, Rejected
from notifier.plan import Owed, Plan
from notifier.poison import last_line, parts, unreadable
from notifier.store import Held

DETAIL_MAX: Final = 500
REASON: Final = "x-jobcast-reason"
_JOB: Final = msgspec.json.Decoder(Job)

log = logging.getLogger(__name__)


AlsoTold = Callable[[Notice], Message | None]
"""What a dialect says of a change of status, to an exchange that exists; None where nothing."""


class Rules(Struct, frozen=True):
    """The settings that the steps depend on. `user` is the service's own AMQP login; `also` are the
    dialects' words for the notifications, owed with them."""

    retention_s: int
    user: str
    partitions: int = 1
    amqp_progress: bool = False
    also: tuple[AlsoTold, ...] = ()

    def told(self, notice: Notice) -> list[Message]:
        """The notification of a change of status, in all words."""
        return [notification(notice), *filter(None, (tell(notice) for tell in self.also))]


class Read(Struct):
    """A batch, read: each job's events in order, what is malformed, what belongs elsewhere."""

    events: dict[JobKey, list[Event]]
    malformed: list[Malformed]
    elsewhere: dict[JobKey, list[Event]]


class Telling(Struct):
    """A notification to be told, and the owed entry that is settled by it."""

    messages: list[Message]
    owed: Owed | None


def read_batch(batch: Sequence[Incoming], rules: Rules) -> Read:
    """Decode every message of a batch."""
    read = Read({}, [], {})
    for message in batch:
        events = _events(message, rules)
        good = [event for event in events if not isinstance(event, Malformed)]
        read.malformed += [event for event in events if isinstance(event, Malformed)]
        astray = rules.partitions > 1 and any(e.job_id != message.correlation_id for e in good)
        into = read.elsewhere if astray else read.events
        for event in good:
            into.setdefault((event.owner, event.job_id), []).append(event)
    return read


def _events(message: Incoming, rules: Rules) -> Sequence[Event | Malformed]:
    trusted = message.user_id is not None and message.user_id == rules.user
    try:
        return decode(message.body, message.content_type, message.headers, trusted=trusted)
    except Exception as error:  # what our own code stumbles over must not take its neighbours along
        log.exception("a message that our own code cannot read")
        if len(alone := parts(message)) > 1:
            return [event for part in alone for event in _events(part, rules)]
        return [unreadable(message, last_line(error))]


def dead_letter(malformed: Malformed) -> Message:
    """What cannot be read, as it came, with the reason."""
    return Message(
        exchange="",
        routing_key=DEAD,
        body=malformed.body,
        mandatory=True,
        message_id=malformed.message_id,
        content_type=malformed.content_type or "application/octet-stream",
        headers=malformed.headers
        | {
            REASON: malformed.reason,
            "x-jobcast-detail": malformed.detail[:DETAIL_MAX],
        },
    )


def rejected_letter(rejected: Rejected) -> Message:
    """An event that reads well and cannot be applied."""
    event, refusal = rejected.event, rejected.refusal
    return Message(
        exchange="",
        routing_key=DEAD,
        body=encode_event(event),
        mandatory=True,
        message_id=reference(event),
        content_type=STRUCTURED,
        correlation_id=event.job_id,
        headers={
            REASON: refusal.reason,
            "x-jobcast-detail": refusal.detail[:DETAIL_MAX],
        },
    )


def reason_of(message: Message) -> str | None:
    """Why the message is a dead letter, if it is one."""
    reason = message.headers.get(REASON)
    return None if reason is None else str(reason)


def sent_again(elsewhere: dict[JobKey, list[Event]], user: str) -> list[Message]:
    """With partitions: one message per job, so that each reaches the queue of its job."""
    return [
        Message(
            exchange=LIFECYCLE,
            routing_key="again",
            body=encode_batch(events),
            mandatory=True,
            message_id=reference(events[0]),
            content_type=BATCH,
            correlation_id=job_id,
            user_id=user,
        )
        for (_, job_id), all_events in elsewhere.items()
        for events in _portions(all_events)
    ]


def _portions(events: list[Event]) -> list[list[Event]]:
    """Cut so that each part fits a message, whatever re-encoding has added."""
    portions: list[list[Event]] = [[]]
    size = 0
    for event in events:
        length = len(encode_event(event)) + 1
        if portions[-1] and size + length > MESSAGE_MAX - 2:
            portions.append([])
            size = 0
        portions[-1].append(event)
        size += length
    return portions


def repeats(folded: Folded, rules: Rules) -> list[Telling]:
    """What redelivered events owe: told again as it was told before."""
    tellings = []
    for version in dict.fromkeys(folded.repeats):
        owed = folded.held.owed[version]
        body = owed.body or folded.held.snapshot
        notice = Notice(
            job=_JOB.decode(body),
            snapshot=body,
            event=owed.event,
            cursor=owed.cursor,
            traceparent=owed.traceparent,
        )
        messages = rules.told(notice) + ([command(notice)] if owed.command else [])
        tellings.append(Telling(messages, owed))
    return tellings


def tellings_of(plan: Plan, after: Held, cursors: Sequence[str], rules: Rules) -> list[Telling]:
    """What a commit owes, in the order of its versions."""
    tellings = []
    left = iter(cursors)
    cursor = ""
    for step in plan.steps:
        change = step.change
        cursor = next(left) if change.in_feed else cursor
        progress = rules.amqp_progress and not change.in_feed
        if not change.status and not progress and not change.command:
            continue
        notice = Notice(
            job=change.state.job,
            snapshot=step.snapshot or msgspec.json.encode(change.state.job),
            event=change.event,
            cursor=cursor,
            traceparent=step.traceparent,
        )
        messages = rules.told(notice) if change.status else []
        messages += [notification(notice)] if progress and not change.status else []
        messages += [command(notice)] if change.command else []
        tellings.append(Telling(messages, after.owed.get(change.state.job.version)))
    return tellings
