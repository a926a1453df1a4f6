"""What a job's owner may do to it over HTTP: the part of `Client` that changes jobs.

Promises that a method which returns has had its change confirmed, so that it is sure to be applied;
it can be read already, or the service was slow and it will be. Never tries again by itself: after
`Unavailable` the change may have been made.
"""

from abc import ABC, abstractmethod
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from jobcast.change import Record
from jobcast.job import Job
from jobcast.problems import Rejected
from jobcast.wire import decode_job


class Records(msgspec.Struct, frozen=True):
    """Some records, in the order in which they came, and how many there are in all."""

    records: list[Record]
    total: int


class Control(ABC):
    """Every `owner` is for admins, who act for another owner with it."""

    async def cancel(self, job_id: str, *, owner: str | None = None) -> Job:
        """Asks the executor to cancel; whether it does shows in the job's end.

        Raises NotCancelable, AlreadyEnded, CancelPending.
        """
        return job_of(await self._send("POST", f"{path_of(job_id)}/cancel", owner))

    async def comment(self, job_id: str, text: str | None, *, owner: str | None = None) -> Job:
        """At most 1,024 characters; None takes the comment away."""
        return job_of(await self._send("PATCH", path_of(job_id), owner, {"comment": text}))

    async def delete(self, job_id: str, *, owner: str | None = None) -> None:
        """The id stays taken. Raises NotEnded."""
        await self._send("DELETE", path_of(job_id), owner)

    async def record(
        self,
        job_id: str,
        target: str,
        code: int,
        message: str | None = None,
        *,
        owner: str | None = None,
    ) -> None:
        """Appends a line about one target; executors name the `owner` as well.

        Raises TooManyRecords.
        """
        line = {"target": target, "code": code, "message": message}
        await self._send("POST", f"{path_of(job_id)}/records", owner, line)

    async def records(
        self,
        job_id: str | None = None,
        *,
        group: str | None = None,
        offset: int = 0,
        max: int = 100,
        owner: str | None = None,
    ) -> Records:
        """Of one job or of a group, at most `max` (-1: all) from the `offset`-th on.

        The service bounds an answer: where there are fewer than asked for, go on behind them.
        """
        if (job_id is None) == (group is None):
            raise ValueError("either job_id or group is wanted")
        path = "/v1/records" if job_id is None else f"{path_of(job_id)}/records"
        window = {"offset": offset, "max": max} | ({} if group is None else {"group": group})
        answer = await self._request("GET", path, params=window | whose(owner))
        return _records(answer)

    async def _send(
        self, method: str, path: str, owner: str | None, body: object = None
    ) -> httpx.Response:
        said: dict[str, Any] = {} if body is None else {"json": body}
        return await self._request(method, path, params=whose(owner), **said)

    @abstractmethod
    async def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer, if it is 2xx."""


def path_of(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def whose(owner: str | None) -> dict[str, str]:
    """The query that acts for another owner."""
    return {} if owner is None else {"owner": owner}


def job_of(response: httpx.Response) -> Job:
    try:
        return decode_job(response.content)
    except msgspec.DecodeError as error:
        raise Rejected(f"the answer is not a job: is this a jobcast API? ({error})") from error


def _records(response: httpx.Response) -> Records:
    try:
        return msgspec.json.decode(response.content, type=Records)
    except msgspec.DecodeError as error:
        raise Rejected(f"the answer holds no records: is this a jobcast API? ({error})") from error
