"""The values around the fold: a job with its memory, and what an event makes of it. Pure."""

from hashlib import blake2b

import msgspec

from jobcast.errors import Refusal
from jobcast.events import Event
from jobcast.job import Job


class Memory(msgspec.Struct, frozen=True, array_like=True):
    """What the fold must remember of a job and nobody else sees.

    `sequence` and `time` (seconds since 1970) are the last applied ones of this attempt, `spoke`
    that its executor gave a percentage, `described` the descriptive fields that were ever set,
    `recent` the references of the last events without `sequence`, `records` how many there are.
    """

    sequence: int | None = None
    time: float | None = None
    spoke: bool = False
    described: tuple[str, ...] = ()
    recent: tuple[str, ...] = ()
    records: int = 0


class State(msgspec.Struct, frozen=True):
    """A job, what the fold remembers of it, and when (ms) it was last heard of."""

    job: Job
    memory: Memory
    heard_at: int


class Record(msgspec.Struct, frozen=True):
    """One line about one target, as stored and as listed."""

    job: str
    group: str | None
    target: str
    code: int
    message: str | None
    at: str


class Change(msgspec.Struct, frozen=True):
    """A new version. `event` is the word that announces it; `status` that the status moved."""

    state: State
    event: str
    status: bool = False
    command: bool = False
    record: Record | None = None

    @property
    def in_feed(self) -> bool:
        """Progress has no place of its own in the feed."""
        return self.event != "progressed"


class Touch(msgspec.Struct, frozen=True):
    """No new version: the job was heard of. `command` repeats the cancel command."""

    state: State
    command: bool = False


Verdict = Change | Touch | Refusal | None


def reference(event: Event) -> str:
    """A short name of an event that is the same whenever it comes again."""
    # With its length, so that no other source and id read the same when joined.
    named = f"{len(event.source)} {event.source}\n{event.id}\n{event.type}"
    return blake2b(named.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
