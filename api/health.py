"""Liveness and readiness. Neither needs a credential, neither names an address.

Promises: an answer within about a second, and no more than one check of each part a second however
often it is asked.
"""

import asyncio
import time
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.problems import unavailable
from broker.outlet import Outlet
from notifier.connection import StoreUnavailable
from notifier.reader import Reader

CHECK_TIMEOUT_S: Final = 1.0
FRESH_S: Final = 1.0


class Health:
    """Asks the parts."""

    def __init__(self, reader: Reader, outlet: Outlet) -> None:
        self._reader = reader
        self._outlet = outlet
        self._checking = asyncio.Lock()
        self._redis_ok = False
        self._checked_at = float("-inf")

    def routes(self) -> list[Route]:
        return [Route("/healthz", self.alive), Route("/readyz", self.ready)]

    async def alive(self, _: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(self, _: Request) -> Response:
        missing = await self.missing()
        if missing:
            raise unavailable(f"missing: {', '.join(missing)}", {"missing": missing})
        return JSONResponse({"status": "ready"})

    async def missing(self) -> list[str]:
        """The parts without which this process does not serve."""
        parts = {
            "redis": await self._redis_answers(),
            "rabbitmq": self._outlet.ready,
            "hub": self._reader.hub.ready,
            "shutdown": not self._reader.hub.draining,
        }
        return [name for name, good in parts.items() if not good]

    async def _redis_answers(self) -> bool:
        async with self._checking:
            if time.monotonic() - self._checked_at > FRESH_S:
                self._redis_ok = await self._ping()
                self._checked_at = time.monotonic()
            return self._redis_ok

    async def _ping(self) -> bool:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self._reader.store.ping()
        except (StoreUnavailable, TimeoutError):
            return False
        return True
