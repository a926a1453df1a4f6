"""JSON-RPC by hand, as a user of `/clm/rpc` or as nobody."""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

from deploy.stack import Stack
from tests.eventually import eventually
from tests.logins import Login, Logins

STATUS: Final = "getAsyncOperationStatus"
RECORD: Final = "getAsyncOperationJobRecords"
ALL: Final = "listAllAsyncOperationJobRecords"


class Rpc:
    """One user, or nobody, at `/clm/rpc`."""

    def __init__(self, client: httpx.AsyncClient, login: Login) -> None:
        self.http = client
        self.login = login

    async def post(self, content: bytes | str, **options: Any) -> httpx.Response:
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        return await self.http.post("/clm/rpc", content=content, headers=headers, **options)

    async def ask(self, *requests: Any) -> Any:
        """What is answered, always with 200."""
        content = json.dumps(requests[0] if len(requests) == 1 else requests)
        response = await self.post(content)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        assert response.headers["cache-control"] == "no-store"
        return response.json()

    async def call(self, method: str, params: Any = None, **more: Any) -> Any:
        """The `result`, or the `error`'s code and message."""
        said = await self.ask(request(method, params, **more))
        assert said["jsonrpc"] == "2.0"
        if "error" in said:
            return said["error"]["code"], said["error"]["message"]
        return said["result"]


def request(method: Any, params: Any = None, **more: Any) -> dict[str, Any]:
    given = {} if params is None else {"params": params}
    return {"jsonrpc": "2.0", "id": 1, "method": method, **given, **more}


@asynccontextmanager
async def opened(stack: Stack, login: Login, headers: dict[str, str]) -> AsyncIterator[Rpc]:
    """At the first replica, with these headers in every request."""
    async with httpx.AsyncClient(base_url=stack.urls[0], headers=headers, timeout=20) as client:
        yield Rpc(client, login)


async def begun(stack: Stack, logins: Logins, alice: Rpc) -> str:
    """A running job of alice's."""
    job = f"job-{uuid.uuid4().hex[:8]}"
    event = {"specversion": "1.0", "id": "1", "source": f"/{job}", "type": "job.started"}
    event |= {"subject": job, "owner": alice.login.name}
    async with httpx.AsyncClient(headers=logins.executor.headers) as client:
        told = await client.post(f"{stack.urls[0]}/v1/events", json=event)
        assert told.status_code == 202, told.text

    async def there() -> bool:
        return await alice.call(RECORD, {"job_id": job}) is not None

    await eventually(there)
    return job
