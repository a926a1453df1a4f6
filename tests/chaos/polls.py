"""Clients that poll: long, until the end of a job, and once in the end for every job."""

import asyncio
from collections.abc import Iterable
from random import Random
from typing import Final
from urllib.parse import quote

import httpx

from tests.chaos.record import JobKey, Poll, Told, told, without_links
from tests.chaos.streams import CONNECT_S, Doors

HOLD_S: Final = 8
ANSWER_S: Final = 6.0
RETRY_S: Final = 0.5
AT_ONCE: Final = 16
TRIES: Final = 10
UNKNOWN: Final = frozenset({httpx.codes.NOT_FOUND, httpx.codes.GONE})


class LongPoller:
    """Waits for the end of one job; every other one asks for every version (`If-None-Match`)."""

    def __init__(self, doors: Doors, key: JobKey, seed: str) -> None:
        self._doors = doors
        self._chance = Random(seed)
        self._versions = self._chance.random() < 0.5
        self._turn = self._chance.randrange(2)
        self.record = Poll(key)
        self.refused: list[int] = []

    @property
    def done(self) -> bool:
        return bool(self.record.answers) and self.record.answers[-1].ended

    async def run(self) -> None:
        while not self.done:
            self._turn += 1
            url = self._doors.urls[self._turn % len(self._doors.urls)]
            try:
                await self._ask(url)
            except httpx.TransportError:
                await asyncio.sleep(self._chance.uniform(0, RETRY_S))

    async def _ask(self, url: str) -> None:
        owner, job_id = self.record.key
        headers = self._doors.headers(owner)
        if self._versions and self.record.answers:
            headers["If-None-Match"] = f'"{self.record.answers[-1].version}"'
        response = await self._doors.http.get(
            f"{url}/v1/jobs/{quote(job_id)}",
            params={"wait": str(HOLD_S)},
            headers=headers,
            timeout=httpx.Timeout(CONNECT_S, read=HOLD_S + ANSWER_S),
        )
        if response.status_code == httpx.codes.OK:
            self.record.answers.append(told("answer", without_links(response.content)))
        elif response.status_code != httpx.codes.NOT_MODIFIED:
            self.refused.append(response.status_code)
            unknown = response.status_code in UNKNOWN
            self.record.forgotten += unknown and bool(self.record.answers)
            await asyncio.sleep(self._chance.uniform(0, RETRY_S))


async def final_answers(doors: Doors, keys: Iterable[JobKey]) -> dict[JobKey, Told]:
    """What GET says of each job in the end; those it does not know are missing."""
    found: dict[JobKey, Told] = {}
    waiting = iter(keys)

    async def work(turn: int) -> None:
        for key in waiting:
            turn += 1
            one = await _final(doors, key, turn)
            if one is not None:
                found[key] = one

    async with asyncio.TaskGroup() as tasks:
        for number in range(AT_ONCE):
            tasks.create_task(work(number))
    return found


async def _final(doors: Doors, key: JobKey, turn: int) -> Told | None:
    for again in range(TRIES):
        url = doors.urls[(turn + again) % len(doors.urls)]
        try:
            response = await doors.http.get(
                f"{url}/v1/jobs/{quote(key[1])}", headers=doors.headers(key[0]), timeout=10
            )
        except httpx.TransportError:
            await asyncio.sleep(RETRY_S)
            continue
        if response.status_code == httpx.codes.OK:
            return told("answer", without_links(response.content))
        if response.status_code in UNKNOWN:
            return None
        await asyncio.sleep(RETRY_S)
    return None
