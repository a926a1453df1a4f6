"""The accounting: every confirmed event, on every channel. Pure: a record in, a ledger out.

Lost, wrong, out of order and repeated where the contract forbids it are failures; repeats under the
same id and openings after a `reset` are counted apart, because docs/protocol.md allows them.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from tests.chaos.chain import Chain
from tests.chaos.record import (
    CHANGES,
    Change,
    Delivery,
    Expected,
    JobKey,
    Poll,
    Record,
    Stored,
    Stream,
    Told,
)

EXAMPLES_MAX: Final = 12
FAILING: Final = ("lost", "duplicated", "reordered", "unexpected", "wrong")


class Row(Struct):
    """One channel. `owed` changes (or answers) it had to tell, `told` what came in all, `repeats`
    those under an id or version that had come before, where that is allowed."""

    channel: str
    owed: int = 0
    told: int = 0
    repeats: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    unexpected: int = 0
    wrong: int = 0
    examples: list[str] = []

    def count(self, what: str, example: str) -> None:
        setattr(self, what, getattr(self, what) + 1)
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{self.channel}: {what}: {example}")

    @property
    def failures(self) -> int:
        return sum(getattr(self, what) for what in FAILING)


class Ledger(Struct):
    """`ok` if nothing was lost, wrong, out of order, repeated or left unconfirmed."""

    rows: list[Row]
    jobs: int
    confirmed: int
    unconfirmed: int
    resumes: dict[str, int]

    @property
    def ok(self) -> bool:
        return not self.unconfirmed and not any(row.failures for row in self.rows)


class Truth:
    """What the store has had. A version that is not in the feed must read the same everywhere."""

    def __init__(self, record: Record) -> None:
        self._stored: dict[tuple[JobKey, int], Stored] = {}
        self._digests: dict[tuple[JobKey, int], int] = {}
        self._versions: dict[tuple[JobKey, Change], int] = {}
        self._newest = {key: told.version for key, told in record.finals.items()}
        for key, entries in record.stored.items():
            for entry in entries:
                self._stored[key, entry.version] = entry
                self._versions[key, entry.change] = entry.version
                self._digests[key, entry.version] = entry.digest

    def version_of(self, key: JobKey, change: Change) -> int | None:
        return self._versions.get((key, change))

    def objection(self, told: Told) -> str | None:
        """Why the store never had what was told, if so."""
        place = told.key, told.version
        stored = self._stored.get(place)
        if told.word in CHANGES and (stored is None or stored.change != told.change):
            return f"{_name(told)} is not in the feed as {told.change}: {stored}"
        if told.version > self._newest.get(told.key, told.version):
            return f"{_name(told)} is newer than the store"
        digest = self._digests.get(place) or self._digests.setdefault(place, told.digest)
        if not digest:
            self._digests[place] = digest = told.digest
        return None if digest == told.digest else f"{_name(told)} {told.word} reads differently"


def judge(record: Record) -> Ledger:
    """Compare everything that was written down."""
    truth = Truth(record)
    rows = [
        _store(record),
        _amqp(record, truth),
        _streams("SSE feed", record.feeds, record, truth),
        _streams("SSE job", record.streams, record, truth),
        _polls(record.polls, record, truth),
        _finals(record, truth),
    ]
    connections = [c for stream in (*record.feeds, *record.streams) for c in stream.connections]
    return Ledger(
        rows=rows,
        jobs=len(record.expected),
        confirmed=sum(one.confirmed for one in record.expected.values()),
        unconfirmed=sum(one.final is None for one in record.expected.values()),
        resumes=dict(Counter(c.answer or f"none ({c.status})" for c in connections)),
    )


def _store(record: Record) -> Row:
    row = Row("store")
    for key, expected in record.expected.items():
        stored = record.stored.get(key, [])
        changes = [entry.change for entry in stored]
        row.told += len(changes)
        _missing(row, key, expected.changes, changes)
        for change, times in Counter(changes).items():
            if change not in expected.changes and change not in expected.unsure:
                row.count("unexpected", f"{key} {change}")
            elif times > 1:
                row.count("duplicated", f"{key} {change} {times} times")
        versions = [entry.version for entry in stored]
        both = [change for change in changes if change in expected.changes]
        wanted = [change for change in expected.changes if change in changes]
        if versions != sorted(versions) or list(dict.fromkeys(both)) != wanted:
            row.count("reordered", f"{key} {stored}")
    return row


def _missing(row: Row, key: JobKey, owed: Iterable[Change], told: Iterable[Change]) -> None:
    known = set(told)
    for change in owed:
        row.owed += 1
        if change not in known:
            row.count("lost", f"{key} {change}")


def _amqp(record: Record, truth: Truth) -> Row:
    row = Row("AMQP")
    told: dict[JobKey, list[Change]] = {}
    for deliveries in record.deliveries.values():
        for one in _first(deliveries, row):
            _note(one, told.setdefault(one.key, []), row, truth)
    for key, expected in record.expected.items():
        _missing(row, key, [c for c in expected.changes if c.notified], told.get(key, []))
    return row


def _first(deliveries: Iterable[Delivery], row: Row) -> Iterable[Told]:
    """Without the repeats, which are dropped by their id; first ones must come in order."""
    seen: dict[str, Told] = {}
    newest: dict[JobKey, int] = {}
    for delivery in deliveries:
        row.told += 1
        one, named = delivery.told, delivery.message_id
        if named != _name(one):
            row.count("unexpected", f"{named} holds {_name(one)}")
        if named in seen:
            row.repeats += 1
            if seen[named].digest != one.digest:
                row.count("unexpected", f"{named} repeated, and reads differently")
            continue
        seen[named] = one
        if one.version < newest.get(one.key, 0):
            row.count("reordered", f"{named} first told after version {newest[one.key]}")
        newest[one.key] = max(one.version, newest.get(one.key, 0))
        yield one


def _note(one: Told, told: list[Change], row: Row, truth: Truth) -> None:
    if one.change in told:
        row.count("duplicated", f"{_name(one)} tells {one.change} again")
    told.append(one.change)
    if objection := truth.objection(one):
        row.count("unexpected", objection)


def _streams(channel: str, streams: Iterable[Stream], record: Record, truth: Truth) -> Row:
    row = Row(channel)
    by_owner: dict[str, list[JobKey]] = {}
    for key in record.expected:
        by_owner.setdefault(key[0], []).append(key)
    for stream in streams:
        chain = Chain()
        for connection in stream.connections:
            for kind, example in chain.read(connection):
                row.count(kind, example)
        row.told += len(chain.told)
        row.repeats += chain.repeats
        for one in chain.told:
            if objection := truth.objection(one):
                row.count("unexpected", objection)
        followed = by_owner.get(stream.owner, [])
        if stream.job_id is not None:
            followed = [(stream.owner, stream.job_id)]
        for key in followed:
            _told_or_shown(row, key, record.expected[key], chain, truth)
    return row


def _told_or_shown(row: Row, key: JobKey, expected: Expected, chain: Chain, truth: Truth) -> None:
    """A change is told by an event of its own, or by a snapshot of an opening after it."""
    shown = chain.covered.get(key, 0)
    changes = chain.changes.get(key, [])
    for change in expected.changes:
        row.owed += 1
        version = truth.version_of(key, change)
        if change not in changes and (version is None or version > shown):
            row.count("lost", f"{key} {change}")


def _polls(polls: Iterable[Poll], record: Record, truth: Truth) -> Row:
    row = Row("long poll")
    for poll in polls:
        row.owed += 1
        row.told += len(poll.answers)
        if poll.forgotten:
            row.count("lost", f"{poll.key} was known, then it was not")
        newest = 0
        for answer in poll.answers:
            if answer.version < newest:
                row.count("reordered", f"{_name(answer)} after version {newest}")
            newest = max(newest, answer.version)
            if objection := truth.objection(answer):
                row.count("unexpected", objection)
        last = poll.answers[-1] if poll.answers else None
        if record.expected[poll.key].final is None:
            continue  # no end of it was confirmed: it may have come or not
        if last is None or not last.ended:
            row.count("lost", f"{poll.key}: the end was not told")
        elif last.final != record.expected[poll.key].final:
            row.count("wrong", f"{_name(last)} {last.final}")
    return row


def _finals(record: Record, truth: Truth) -> Row:
    row = Row("GET")
    for key, expected in record.expected.items():
        if expected.final is None:
            continue
        row.owed += 1
        final = record.finals.get(key)
        if final is None:
            row.count("lost", f"{key} is unknown")
            continue
        row.told += 1
        if final.final != expected.final:
            row.count("wrong", f"{key} {final.final} instead of {expected.final}")
        if objection := truth.objection(final):
            row.count("unexpected", objection)
    return row


def _name(told: Told) -> str:
    return f"{told.key[0]}/{told.key[1]}/{told.version}"
