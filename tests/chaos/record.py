"""What a run has written down: what was said, what is stored, and what every channel told.

Pure values. `ledger.py` compares them; everything else in this folder only fills them.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from jobcast.events import Event, Heartbeat, Progressed
from jobcast.job import FINAL

JobKey = tuple[str, str]
"""(owner, job id)"""

ENDS: Final = frozenset(status.value for status in FINAL)
CHANGES: Final = ENDS | {"queued", "started", "cancel-pending", "recorded"}
"""The words of what has a place in the feed, as far as the writers cause it."""


class Change(Struct, frozen=True):
    """A change that an event causes; the writers cause each at most once per job."""

    attempt: int
    word: str

    @property
    def notified(self) -> bool:
        """AMQP tells changes of the status only."""
        return self.word != "recorded"


class LastState(Struct, frozen=True):
    """What is known of a job's last representation before anybody has seen it."""

    status: str
    outcome: str | None
    attempt: int
    message: str | None
    status_code: int | None


class Expected(Struct):
    """What a writer knows of one job: changes of confirmed events in order, and of the others."""

    changes: list[Change]
    unsure: list[Change]
    final: LastState | None  # None: its end was never confirmed
    confirmed: int


class Stored(Struct, frozen=True):
    """One entry of the feed. `digest` 0: too large for the feed."""

    version: int
    change: Change
    digest: int


class Told(Struct, frozen=True):
    """A job representation as some channel gave it, and the word that came with it."""

    key: JobKey
    word: str
    version: int
    attempt: int
    digest: int
    final: LastState
    percent: float | None = None

    @property
    def change(self) -> Change:
        return Change(self.attempt, self.word)

    @property
    def ended(self) -> bool:
        return self.final.status in ENDS


class Delivery(Struct, frozen=True):
    """One message from a subscriber's queue, in the order of arrival."""

    message_id: str
    told: Told


class Frame(Struct, frozen=True):
    """One event of a stream; `told` None for those that carry no job."""

    event: str
    cursor: str | None
    told: Told | None


class Connection(Struct):
    """One HTTP response of a stream: what was asked for, what came, how it ended."""

    cursor: str | None
    status: int = 0
    answer: str = ""  # fresh, resumed, reset
    frames: list[Frame] = []
    ended_by: str = ""


class Stream(Struct):
    """One reader of the owner's feed (`job_id` None) or of one job, through all its connections."""

    owner: str
    job_id: str | None
    connections: list[Connection] = []


class Poll(Struct):
    """One client that waits for the end of a job by long polling: all the answers it got, and how
    often it was told that there is no such job after it had been told of it."""

    key: JobKey
    answers: list[Told] = []
    forgotten: int = 0


class Record(Struct):
    expected: dict[JobKey, Expected] = {}
    stored: dict[JobKey, list[Stored]] = {}
    deliveries: dict[str, list[Delivery]] = {}  # by owner
    feeds: list[Stream] = []
    streams: list[Stream] = []
    polls: list[Poll] = []
    finals: dict[JobKey, Told] = {}


class _Seen(Struct):
    id: str
    owner: str
    version: int
    attempt: int
    status: str
    outcome: str | None
    message: str | None
    status_code: int | None
    percent: float | None


_SEEN: Final = msgspec.json.Decoder(_Seen)


def told(word: str, body: bytes) -> Told:
    """Raises msgspec.DecodeError for what is no job."""
    seen = _SEEN.decode(body)
    final = LastState(seen.status, seen.outcome, seen.attempt, seen.message, seen.status_code)
    key = seen.owner, seen.id
    return Told(key, word, seen.version, seen.attempt, hash(body), final, seen.percent)


def without_links(body: bytes) -> bytes:
    """The representation as it is stored: HTTP answers add `links` as the last member."""
    head, found, _ = body.rpartition(b',"links":')
    return head + b"}" if found else body


def changes_of(events: Iterable[Event]) -> list[Change]:
    return [
        Change(event.attempt, event.type.removeprefix("job."))
        for event in events
        if not is_progress(event)
    ]


def is_progress(event: Event) -> bool:
    """Progress is never owed."""
    return isinstance(event, Progressed | Heartbeat)
