"""The 202 pattern, whole: a service that starts long operations, and reports on them to jobcast.

Its one operation counts the primes below a number. It is started in five ways, one for each API of
docs/dialects.md and the native one, which differ in nothing but how the request and the 202 look:
clients written for any of them poll jobcast for the end in the way that they know.

A service of your own has one of the five, and knows who asks; here all jobs are those of the user
whose token is in JOBCAST_TOKEN. How it is run: examples/README.md.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobcast import Client, Reporter, ServiceError

OPERATION = "count-primes"
BELOW_MAX = 3_000_000
DIGITS_MAX = 10
WAITING_MAX = 1_000
WORKERS = 2
PARTS = 20
LEASE_S = 30
KNOWN_S = 10

log = logging.getLogger("service")


class Service:
    """Takes orders and carries them out. `jobcast` reads as the owner of the jobs."""

    def __init__(self, reporter: Reporter, jobcast: Client) -> None:
        self._reporter = reporter
        self._jobcast = jobcast
        self._orders: asyncio.Queue[tuple[str, int]] = asyncio.Queue(WAITING_MAX)

    async def start(self, below: int) -> str:
        """The id of the new job, once jobcast knows it: a client may ask for it at once.

        Should this process die, the leases of running jobs run out, and they have failed; an order
        that still waits is forgotten, and one that must not be belongs in a queue that lasts.
        """
        if self._orders.full():
            raise HTTPException(503, "too much to do: come again later", {"Retry-After": "10"})
        job_id = await self._reporter.queued(operation=OPERATION, lease_s=LEASE_S)
        await self._orders.put((job_id, below))
        await self._known(job_id)
        return job_id

    async def _known(self, job_id: str) -> None:
        """Returns at the first sign of it. Where jobcast is away the job begins all the same: what
        is reported waits, and the client's questions have to."""
        with suppress(TimeoutError, ServiceError):
            async with asyncio.timeout(KNOWN_S), aclosing(self._jobcast.watch(job_id)) as changes:
                async for _ in changes:
                    return

    async def work(self) -> None:
        """Carries out one order after the other, for ever. What goes wrong fails that job alone."""
        while True:
            job_id, below = await self._orders.get()
            try:
                await self._carry_out(job_id, below)
            except Exception:
                log.exception("job %s has failed", job_id)

    async def give_up(self) -> None:
        """What nobody has begun is canceled."""
        while not self._orders.empty():
            job_id, _ = self._orders.get_nowait()
            async with self._reporter.job(job_id, operation=OPERATION) as job:
                job.cancel("the service has been stopped")

    async def _carry_out(self, job_id: str, below: int) -> None:
        async with self._reporter.job(job_id, operation=OPERATION, lease_s=LEASE_S) as job:
            found = 0
            for part in range(PARTS):
                low, high = (below * at // PARTS for at in (part, part + 1))
                found += await asyncio.to_thread(primes, low, high)
                await job.progress(100 * (part + 1) / PARTS, message=f"{found} below {high}")
            if not found:
                raise ValueError(f"there is no prime below {below}")
            job.succeed(result={"primes": found})


def primes(low: int, high: int) -> int:
    """How many there are from `low` on, below `high`."""
    sieve = bytearray([1]) * (high - low)
    for factor in range(2, int(max(high - 1, 0) ** 0.5) + 1):
        first = max(factor * factor, -(-low // factor) * factor)
        sieve[first - low :: factor] = bytes(len(range(first, high, factor)))
    return sum(sieve[max(2 - low, 0) :])


async def native(request: Request) -> Response:
    """`Location`, and the links that jobcast gives the job."""
    job_id = await started(request, request.query_params.get("below"))
    path = f"/v1/jobs/{job_id}"
    body = {"id": job_id, "links": {"self": path, "events": f"{path}/events"}}
    return JSONResponse(body, 202, {"Location": f"{request.app.state.url}{path}"})


async def hmc(request: Request) -> Response:
    """IBM Z HMC: no `Location`, which its clients would follow."""
    body = await members(request)
    job_id = await started(request, body.get("below"))
    return JSONResponse({"job-uri": f"/api/jobs/{job_id}"}, 202)


async def cloudstack(request: Request) -> Response:
    """Apache CloudStack: 200, and the envelope with the command's name."""
    query = request.query_params
    if query.get("command") != "countPrimes":
        raise HTTPException(432, "command: countPrimes is wanted")
    job_id = await started(request, query.get("below"))
    return JSONResponse({"countprimesresponse": {"jobid": job_id}})


async def netapp(request: Request) -> Response:
    """NetApp Active IQ Unified Manager."""
    body = await members(request)
    job_id = await started(request, body.get("below"))
    href = f"/api/management-server/jobs/{job_id}"
    link = {"key": job_id, "_links": {"self": {"href": href}}}
    return JSONResponse({"job": link}, 202, {"Location": href})


async def cisco(request: Request) -> Response:
    """Cisco License Manager, over JSON-RPC: the result is the request id, which is the job id."""
    body = await members(request)
    match body:
        case {"method": "asyncCountPrimes", "params": {"below": value}}:
            job_id = await started(request, value)
        case _:
            raise HTTPException(400, "method asyncCountPrimes and params with below are wanted")
    return JSONResponse({"jsonrpc": "2.0", "id": body.get("id"), "result": job_id})


async def members(request: Request) -> dict[str, Any]:
    """The body: a JSON object."""
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise HTTPException(400, "a JSON object is wanted")
    return body


async def started(request: Request, below: Any) -> str:
    """The id of the job. What can be seen to be wrong at once is a 400, and no job."""
    text, service = str(below), cast("Service", request.app.state.service)
    if text.isascii() and text.isdigit() and len(text) < DIGITS_MAX and int(text) <= BELOW_MAX:
        return await service.start(int(text))
    raise HTTPException(400, f"below: an integer from 0 to {BELOW_MAX} is wanted")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """The workers end first, their jobs as canceled; then what they have said is sent."""
    url, token = os.environ["JOBCAST_URL"], os.environ["JOBCAST_TOKEN"]
    owner = os.environ.get("OWNER", "alice")
    async with (
        Client(url, token) as jobcast,
        Reporter(os.environ["JOBCAST_AMQP_URL"], owner=owner) as reporter,
    ):
        app.state.url, app.state.service = url, Service(reporter, jobcast)
        workers = [asyncio.create_task(app.state.service.work()) for _ in range(WORKERS)]
        yield
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await app.state.service.give_up()


app = Starlette(
    routes=[
        Route("/primes", native, methods=["POST"]),
        Route("/api/primes/operations/count", hmc, methods=["POST"]),
        Route("/client/api", cloudstack, methods=["GET", "POST"]),
        Route("/api/v2/primes", netapp, methods=["POST"]),
        Route("/clm/rpc", cisco, methods=["POST"]),
    ],
    lifespan=lifespan,
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8090")))
