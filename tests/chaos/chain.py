"""One stream through all its connections: what docs/protocol.md § 8 forbids along the way.

As long as the answers are `resumed`, a version comes once as a change, nothing goes back, and ids
go out in feed order. `fresh` and `reset` begin a new chain.
"""

from collections.abc import Iterator
from typing import Final

from notifier.feed import position
from tests.chaos.record import CHANGES, Change, Connection, Frame, JobKey, Told

UNKNOWN: Final = frozenset({404, 410})
Objection = tuple[str, str]
"""(what of the ledger's row, an example)"""


class Chain:
    """`told` is everything that came; `covered` the newest snapshot of each job."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.changes: dict[JobKey, list[Change]] = {}
        self.covered: dict[JobKey, int] = {}
        self.repeats = 0
        self._begin()

    def _begin(self) -> None:
        self._at = (0, 0)
        self._changed: dict[JobKey, int] = {}
        self._shown: dict[JobKey, Told] = {}

    def read(self, connection: Connection) -> Iterator[Objection]:
        """Go on with the next connection."""
        if connection.cursor and connection.status in UNKNOWN:
            yield "lost", f"{connection.status} at the cursor {connection.cursor}"
        if connection.answer in {"fresh", "reset"}:
            self._begin()
        here: dict[JobKey, int] = {}
        for frame in connection.frames:
            yield from self._place(frame)
            if frame.told is not None:
                yield from self._read(frame.told, here)

    def _place(self, frame: Frame) -> Iterator[Objection]:
        if frame.cursor is None:
            return
        at = position(frame.cursor)
        if at < self._at:
            yield "reordered", f"id {frame.cursor} of {frame.event} after {self._at}"
        self._at = max(at, self._at)

    def _read(self, told: Told, here: dict[JobKey, int]) -> Iterator[Objection]:
        key, version = told.key, told.version
        self.told.append(told)
        shown = self._shown.get(key)
        newest = 0 if shown is None else shown.version
        named = f"{key} {told.word} {version}{'' if key in here else ' (first on its connection)'}"
        if told.word == "snapshot":
            self.covered[key] = max(version, self.covered.get(key, 0))
            self._changed[key] = version
        elif told.word in CHANGES:
            if version == self._changed.get(key):
                yield "duplicated", f"{named} comes twice"
            self._changed[key] = version
            self.changes.setdefault(key, []).append(told.change)
        elif version == newest and key not in here:
            self.repeats += 1  # after a resume a job's progress is sent once, seen or not
        elif version == newest:
            yield "duplicated", f"{named} comes twice on one connection"
        if version < newest:
            yield "reordered", f"{named} after {newest}"
        if shown is not None and _slid_back(shown, told):
            yield "reordered", f"{named}: {told.percent} % after {shown.percent} %"
        here[key] = version
        if version >= newest:
            self._shown[key] = told


def _slid_back(before: Told, after: Told) -> bool:
    """The writers only ever raise the percentage within an attempt."""
    same = before.attempt == after.attempt and after.version > before.version
    return same and (after.percent or 0) < (before.percent or 0)
