"""RabbitMQ's direct reply-to: which of the names that arrive may be answered to.

Owns the look at such a name before anything is published to it. It stands in a property that any
publisher writes freely, and RabbitMQ reads it back without care: before 4.x one that is not its own
ends the *answerer's* connection (541), and every node name in it becomes an atom, which no Erlang
ever forgets. Promises: only names of the right form, with a node that this broker knows, pass. A
node that is new is tried on a connection of its own, and so seldom that it does no harm.
"""

import asyncio
import base64
import binascii
import re
from collections import OrderedDict
from typing import Final

from broker.errors import BrokerUnavailable
from broker.link import connected, opened
from jobcast.names import DIRECT, QUERY

TRY_S: Final = 10.0
"""Between two nodes that one user may have tried."""
USERS_MAX: Final = 1_000
NOBODYS: Final = base64.b64encode(bytes(16)).decode()
"""A key that no channel has: what is sent to it arrives nowhere."""

# A process id in Erlang's external form: version, kind, the node's name as an atom of either kind
# and either size of length, and 12 bytes. RabbitMQ writes `reply@` and a hash of the real name.
_PROCESS: Final = re.compile(
    rb"\A\x83X(?:[vd]\x00|[ws])(?P<length>.)(?P<node>reply@(?:0|[1-9][0-9]{0,8})).{12}\Z", re.DOTALL
)
_KEY: Final = re.compile(r"\A[A-Za-z0-9+/]{22}==\Z")


def node_of(reply_to: str) -> bytes | None:
    """The node in a direct reply-to name, None for what RabbitMQ does not write."""
    process, dot, key = reply_to.removeprefix(DIRECT).partition(".")
    if not (reply_to.startswith(DIRECT) and dot and _KEY.match(key)):
        return None
    try:
        found = _PROCESS.match(base64.b64decode(process, validate=True))
    except (binascii.Error, ValueError):
        return None
    if found is None or found["length"][0] != len(found["node"]):
        return None
    return found["node"]


class DirectReplies:
    """Knows the broker's nodes by what it has tried."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._nodes: set[bytes] = set()
        self._tried: OrderedDict[str, float] = OrderedDict()  # when each user had one tried

    async def reach(self, reply_to: str, user: str) -> bool:
        """Whether an answer may be published to this name, which the user gave."""
        node = node_of(reply_to)
        if node is None or node in self._nodes:
            return node is not None
        now = asyncio.get_running_loop().time()
        if now - self._tried.pop(user, now - TRY_S) < TRY_S:
            self._tried[user] = now
            return False
        self._tried[user] = now
        if len(self._tried) > USERS_MAX:
            self._tried.popitem(last=False)
        if await self._try(reply_to):
            self._nodes.add(node)
        return node in self._nodes

    async def _try(self, reply_to: str) -> bool:
        name = f"{reply_to.rpartition('.')[0]}.{NOBODYS}"
        try:
            async with (
                connected(self._url, "jobcast queries trial") as connection,
                opened(connection, confirms=False) as channel,
            ):
                await channel.basic_publish(b"", routing_key=name)
                await channel.exchange_declare(QUERY, passive=True)  # has the channel lived?
        except BrokerUnavailable:
            return False
        return True
