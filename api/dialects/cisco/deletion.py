"""Deleting many jobs in one call: each id once, a few at the same time, and an item for each.

Promises: what keeps one from being decided (RabbitMQ is away) keeps the rest from being tried, and
so does the end of the request's time: no item then says what has not been done.
"""

from asyncio import TaskGroup
from collections.abc import Iterator, Sequence
from typing import Final

from api.control import Delete
from api.dialects.answering import EXPECTED, problem_of
from api.dialects.cisco.objects import PROBLEMS, Code, IDStatusItem, said
from api.dialects.cisco.turn import Turn
from api.facility import Facility
from api.problems import Problem

AT_ONCE: Final = 8
TOO_LATE: Final = "it was not tried: the request has taken too long"


class Deletion:
    """Of one call."""

    def __init__(self, facility: Facility, turn: Turn) -> None:
        self._facility = facility
        self._turn = turn
        self._found: dict[str, tuple[Code, str | None]] = {}
        self._stopped: Problem | None = None

    async def run(self, job_ids: Sequence[str]) -> None:
        """Raises Problem if it could not be decided about any."""
        left = iter(dict.fromkeys(job_ids))
        async with TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(self._some(left))
        undecided = all(code is Code.INTERNAL for code, _ in self._found.values())
        if self._stopped is not None and undecided:
            raise self._stopped

    async def _some(self, left: Iterator[str]) -> None:
        for job_id in left:
            self._found[job_id] = await self._delete(job_id)

    async def _delete(self, job_id: str) -> tuple[Code, str | None]:
        if self._stopped is not None or self._turn.is_over:
            return Code.INTERNAL, TOO_LATE if self._stopped is None else None
        who = self._turn.who
        try:
            await self._facility.carry_out(who, who.user, job_id, Delete())
        except EXPECTED as error:
            problem = problem_of(error)
            if problem.name in PROBLEMS:
                return PROBLEMS[problem.name], None
            self._stopped = problem
            return Code.INTERNAL, problem.detail
        return Code.SUCCESS, None

    def items(self, job_ids: Sequence[str]) -> list[IDStatusItem]:
        """One for each, in order; an id that has come before is said to have."""
        found, seen = list[IDStatusItem](), set[str]()
        for job_id in job_ids:
            code, text = self._found[job_id]
            if job_id in seen:
                code, text = Code.DUPLICATE_ID, None
            seen.add(job_id)
            found.append(IDStatusItem(id=job_id, **said(code, text)))
        return found
