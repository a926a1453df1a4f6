"""What a commit is to write, as values: made by folding.py, sent to Redis by commit.py."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from jobcast.change import Change, Record, State
from jobcast.job import Job

FEED_BODY_MAX: Final = 16_384
OWED_MAX: Final = 16


class Owed(Struct):
    """A notification that a commit owes: to be told until the broker has confirmed it.

    `reference` names the event that caused it; `body` is None while the snapshot is still the
    current one. `settled`: this notifier has had it confirmed, or has given it up.
    """

    reference: str
    event: str
    command: bool
    cursor: str
    traceparent: str | None
    body: bytes | None = None
    settled: bool = False

    @property
    def head(self) -> str:
        """What stands before the body in Redis, less the cursor that the script knows first."""
        return f"{self.reference} {self.event} {int(self.command)} {self.traceparent or '-'}"


def parse_owed(value: bytes) -> Owed:
    head, _, body = value.partition(b"\n")
    cursor, reference, event, command, traceparent = head.decode().split(" ")
    trace = None if traceparent == "-" else traceparent
    return Owed(reference, event, command == "1", cursor, trace, body or None)


class Step(Struct, frozen=True):
    """One change within a commit; what others will see by itself, with the name of its event and
    the representation after it."""

    change: Change
    reference: str
    traceparent: str | None
    snapshot: bytes | None


class Plan(Struct):
    """Everything that one commit of one job writes.

    `expected` is the version it was folded from, None for no job; `moves` are the owed versions
    that take the snapshot being replaced as their body, `drops` those that are settled.
    """

    owner: str
    job_id: str
    expected: int | None
    state: State
    steps: list[Step]
    before: Job | None = None
    snapshot: bytes = b""
    drops: Sequence[int] = ()
    moves: Sequence[int] = ()
    references: Sequence[str] = ()
    join_group: bool = False

    @property
    def records(self) -> list[Record]:
        return [step.change.record for step in self.steps if step.change.record is not None]

    @property
    def odd_groups(self) -> Sequence[str]:
        """The groups of its records that are not the job's own; "" stands for none."""
        records = self.records
        if not records and not self.join_group:
            return ()
        groups = {record.group or "" for record in records}
        if self.join_group and self.state.memory.records > len(records):
            groups.add("")  # those before the job had a group
        return sorted(groups - {self.state.job.group or ""})

    @property
    def deleted(self) -> bool:
        return bool(self.steps) and self.steps[-1].change.event == "deleted"
