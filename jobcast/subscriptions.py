"""The durable subscriptions of one client: their names, their login, and leaving them.

Owns every subscription of the client that is open. Promises: they are closed with the client, and
what was shown last is acknowledged if the client's block is left normally.
"""

import os
from collections.abc import Callable
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from jobcast.client_id import own_client_id
from jobcast.filters import Some, interest
from jobcast.inlet import InletLost, InletRefused, delete_queue
from jobcast.names import subscription_queue
from jobcast.problems import Forbidden, Unavailable
from jobcast.subscription import Subscription, Terms

SCHEMES: Final = frozenset({"amqp", "amqps"})


class Login:
    """An AMQP URL; without a password in it the token is one, asked for at each connection.

    Raises ValueError for a URL that is not AMQP or names no user.
    """

    def __init__(self, url: str, token: str | Callable[[], str] | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not parts.hostname or not parts.username:
            raise ValueError("amqp_url: an amqp:// or amqps:// URL with a user is wanted")
        self.user = unquote(parts.username)
        self._parts = parts
        self._token = token

    def url(self) -> str:
        parts, token = self._parts, self._token
        if parts.password is not None or token is None:
            return parts.geturl()
        secret = quote(token if isinstance(token, str) else token(), safe="")
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=f"{parts.username}:{secret}@{host}").geturl()


class Subscriptions:
    """Those of one login. Without a `client_id` that of this user on this machine is taken."""

    def __init__(self, login: Login, client_id: str | None, refused_s: float) -> None:
        self._login = login
        self._client_id = client_id
        self._refused_s = refused_s
        self._open: dict[str, Subscription] = {}

    def open(
        self,
        name: str,
        owner: Some | None,
        operation: Some | None,
        event: Some | None,
        job: Some | None,
    ) -> Subscription:
        """Raises ValueError, BadSetting; nothing is sent yet. One of the same name that is still
        open is closed when this one is used."""
        queue = self._queue(name)
        wanted = interest(owner or self._login.user, operation, event, job)
        terms = Terms(self._login.url, queue, wanted, self._refused_s)
        subscription = self._open[name] = Subscription(terms, self._open.get(name))
        return subscription

    async def remove(self, name: str) -> None:
        queue = self._queue(name)
        if name in self._open:
            await self._open.pop(name).aclose()
        try:
            await delete_queue(self._login.url(), queue)
        except InletRefused as error:
            raise Forbidden(f"RabbitMQ refuses queue {queue}: {error}") from error
        except InletLost as error:
            raise Unavailable(f"cannot reach RabbitMQ: {error}") from error

    async def close(self, *, handled: bool) -> None:
        while self._open:
            await self._open.popitem()[1].aclose(handled=handled)

    def _queue(self, name: str) -> str:
        if self._client_id is None:
            self._client_id = own_client_id(os.environ)
        return subscription_queue(self._login.user, self._client_id, name)
