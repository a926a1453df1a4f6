"""The lives of jobs that the writers report, made from the seed: every event beforehand."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import uuid4

import msgspec
from msgspec import Struct

from jobcast.events import (
    Canceled,
    Event,
    Failed,
    Progressed,
    Queued,
    Recorded,
    Started,
    Succeeded,
)
from jobcast.job import ANNOUNCED, Status
from tests.chaos.record import JobKey, LastState

OPERATIONS: Final = ("backup", "copy", "deploy.vm")
LONG_RESULT: Final = "x" * 20_000  # beyond what a feed entry holds
ENDS: Final = (Succeeded, Succeeded, Succeeded, Failed, Canceled)
LAST: Final[dict[type[Event], tuple[Status, str | None, int]]] = {
    Succeeded: (Status.SUCCEEDED, "normal", 200),
    Failed: (Status.FAILED, "error", 500),
    Canceled: (Status.CANCELED, None, 499),
}


class Life(Struct):
    """One job: its events in order, how long (s) its executor pauses between them, its end."""

    key: JobKey
    number: int
    operation: str
    events: list[Event]
    pause_s: float
    final: LastState


class Lives:
    """An endless supply of jobs; every writer has one of its own."""

    def __init__(self, seed: str, owners: list[str]) -> None:
        self._chance = Random(seed)
        self._owners = owners
        self._named = f"{seed.replace(' ', '-')}-{uuid4().hex[:6]}"
        self._number = 0

    def next(self) -> Life:
        chance = self._chance
        self._number += 1
        owner = chance.choice(self._owners)
        job_id = f"{self._named}-{self._number}"
        teller = _Teller(chance, owner, job_id)
        attempts = 2 if chance.random() < 0.2 else 1
        if chance.random() < 0.85:
            teller.say(Queued, operation=teller.operation, message="waits")
        for attempt in range(1, attempts + 1):
            teller.attempt = attempt
            teller.say(Started, operation=teller.operation, message=f"attempt {attempt}")
            for step in range(chance.randrange(6)):
                teller.say(Progressed, percent=10 + step * 10, message=f"step {step}")
            if chance.random() < 0.15:
                teller.say(Recorded, target="volume", code=attempt, message="noted")
        last = teller.end()
        pause_s = chance.choice((0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 1.5))
        key = owner, job_id
        return Life(key, self._number, teller.operation, teller.events, pause_s, last)


class _Teller:
    """Makes one job's events, in one of the three ways of telling their age (§ 3, rule 5)."""

    def __init__(self, chance: Random, owner: str, job_id: str) -> None:
        self.operation = chance.choice(OPERATIONS)
        self.events: list[Event] = []
        self.attempt = 1
        self._chance = chance
        self._named: dict[str, Any] = {"source": "/chaos", "owner": owner, "job_id": job_id}
        self._age = chance.choice(("sequence", "time", "none"))
        self._began = datetime.now(UTC)

    def say(self, kind: type[Event], **fields: Any) -> None:
        number = len(self.events) + 1
        if self._age == "sequence":
            fields["sequence"] = number
        elif self._age == "time":
            fields["time"] = self._began + timedelta(milliseconds=number)
        name = f"{self._named['job_id']}-{number}"
        self.events.append(kind(id=name, attempt=self.attempt, **self._named, **fields))

    def end(self) -> LastState:
        kind = self._chance.choice(ENDS)
        status, outcome, code = LAST[kind]
        message = f"{ANNOUNCED[status]} after {len(self.events)} events"
        long = self._chance.random() < 0.01
        result = msgspec.Raw(msgspec.json.encode({"long": LONG_RESULT} if long else {"n": 1}))
        self.say(kind, message=message, result=result)
        return LastState(status.value, outcome, self.attempt, message, code)
