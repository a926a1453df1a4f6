"""A user's License Manager, and an executor that reports on their jobs."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Final, NamedTuple

import httpx

from deploy.stack import Stack
from examples.clm_client import ClmJob, LicenseManager, Pagination, Status
from tests.cloudevents import event
from tests.eventually import eventually
from tests.logins import Login, Logins

UNKNOWN: Final = "unknown-job"
FIRST: Final = Pagination(0, -1)


class Executor:
    """Reports over HTTP on the jobs of one owner."""

    def __init__(self, url: str, login: Login, owner: str) -> None:
        self._http = httpx.Client(base_url=url, headers=login.headers)
        self._owner = owner

    def close(self) -> None:
        self._http.close()

    def report(self, word: str, *jobs: str, **data: Any) -> None:
        events = [event(self._owner, job, word, **data) for job in jobs]
        response = self._http.post("/v1/events", json=events)
        assert response.status_code == 202, response.text


class Clm(NamedTuple):
    """`manager` is logged in as `login`; `executor` reports on that user's jobs."""

    manager: LicenseManager
    executor: Executor
    login: Login

    async def until(self, job: str, **wanted: Any) -> ClmJob:
        """The record of the job, once it says all that."""

        def there() -> ClmJob | None:
            found = self.manager.getAsyncOperationJobRecords(job)
            told = found is not None and all(getattr(found, n) == v for n, v in wanted.items())
            return found if told else None

        return await eventually(there)


@contextmanager
def logged_in(stack: Stack, logins: Logins, login: Login) -> Iterator[Clm]:
    executor = Executor(stack.urls[0], logins.executor, login.name)
    with LicenseManager(stack.urls[0], login.name, login.token) as manager, closing(executor):
        yield Clm(manager, executor, login)


def ok(status: Status) -> None:
    assert (status.errorCode, status.errorName, status.errorMessage) == (0, "SUCCESS", "")
