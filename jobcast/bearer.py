"""The bearer token of an HTTP request. Never shows it."""

from collections.abc import Callable, Generator

import httpx


class Bearer(httpx.Auth):
    """Asks for the token anew for every request, so that another follows one that expires."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token()}"
        yield request
