"""The jobs that a Reporter holds, and what a command does to them. No I/O.

A job is held from its `job.started` to its end. Commands for other jobs, of an older attempt than
the one held, or that say again what was said change nothing.
"""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from jobcast.events import Described
from jobcast.notification import Command, decode_command
from jobcast.outbox import Entry, Lane

log = logging.getLogger(__name__)

Tell = Callable[[Command], None]

WITHOUT_WORDS: Final = {"message": None}


class _Holding(msgspec.Struct):
    start: Entry
    tell: Tell
    told: bool = False


class Holdings:
    """By owner and job id; the last to begin a job holds it."""

    def __init__(self) -> None:
        self._jobs: dict[Lane, _Holding] = {}

    def take(self, start: Entry, tell: Tell) -> None:
        """`tell` is called at most once for each `job.started`; what it raises is logged."""
        self._jobs[start.lane] = _Holding(start, tell)

    def drop(self, lane: Lane, attempt: int) -> None:
        """That attempt is over; a newer one stays."""
        held = self._jobs.get(lane)
        if held is not None and held.start.event.attempt <= attempt:
            del self._jobs[lane]

    def heard(self, body: bytes) -> None:
        command = decode_command(body)
        held = self._jobs.get((command.owner, command.job_id)) if command else None
        if command is None or held is None or held.told:
            return
        if command.attempt < held.start.event.attempt:
            return
        held.told = True
        try:
            held.tell(command)
        except Exception:
            log.exception("job %s is to be canceled, and telling so has failed", command.job_id)

    def starts(self) -> list[Entry]:
        """Every held job's `job.started`, to be said again: the service answers it with the command
        if the job is to be canceled. It changes nothing else: same id, and no message.
        """
        return [
            Entry(
                msgspec.structs.replace(held.start.event, **WITHOUT_WORDS),
                held.start.operation,
                held.start.size,
            )
            for held in self._jobs.values()
        ]


def operation_of(entry: Entry) -> str:
    """The operation by which commands about the job are routed, as far as this event knows."""
    event = entry.event
    return (isinstance(event, Described) and event.operation) or entry.operation
