"""Where clients of Active IQ Unified Manager go: the real stack, over plain HTTP and over TLS."""

import asyncio
from typing import Any, NamedTuple
from urllib.parse import quote

import requests

from tests.cloudevents import event
from tests.dialects.netapp.client import Server
from tests.eventually import eventually
from tests.logins import Login, Logins


class World(NamedTuple):
    """`report(owner, word, job, …)` says what happens to a job."""

    servers: dict[str, Server]
    logins: Logins

    def report(self, owner: str, word: str, job: str, **data: Any) -> None:
        told = requests.post(
            f"{self.servers['http'].url}/v1/events",
            json=event(owner, job, word, **data),
            headers=self.logins.executor.headers,
            timeout=10,
        )
        assert told.status_code == 202, told.text

    def has(self, login: Login, job: str, **fields: Any) -> None:
        """Returns when the native job has these values."""

        def there() -> bool:
            url = f"{self.servers['http'].url}/v1/jobs/{quote(job)}"
            told = requests.get(url, headers=login.headers, timeout=10)
            return told.ok and fields.items() <= told.json().items()

        asyncio.run(eventually(there))
