"""The alphabet of ids, the exchanges, and how names become parts of routing keys and queues."""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote

LIFECYCLE: Final = "job.lifecycle"
EVENTS: Final = "job.events"
COMMANDS: Final = "job.commands"
QUERY: Final = "job.query"
DEAD: Final = "jobcast.dead"

QUERY_KEY: Final = "status"
"""The routing key of a question on `job.query`."""
DIRECT: Final = "amq.rabbitmq.reply-to."
"""What the names begin with by which RabbitMQ answers directly, without a queue."""
ANY_OPERATION: Final = "*"

ID_PATTERN: Final = r"^[A-Za-z0-9._:~-]+\Z"
OWNER_PATTERN: Final = r"^[A-Za-z0-9._:~@-]+\Z"
ID_MAX: Final = 100
OWNER_MAX: Final = 64
OPERATION_MAX: Final = 64
QUEUE_MAX: Final = 255
"""Bytes of a queue's name, which AMQP sets."""
SUBSCRIPTION_PARTS: Final = 4

EXCHANGE_MAX: Final = 127
RESERVED: Final = ("amq.", "job.", "jobcast.")
"""What the names of RabbitMQ's own exchanges and of ours begin with."""

_ID = re.compile(ID_PATTERN)
_OWNER = re.compile(OWNER_PATTERN)
_EXCHANGE = re.compile(r"^[A-Za-z0-9._:-]+\Z")
_PLAIN = re.compile(r"^[A-Za-z0-9_~-]*\Z")
_ENCODED = re.compile(r"^(?:[A-Za-z0-9_~-]|%[0-9A-F]{2})+\Z")


@lru_cache(maxsize=4_096)  # the same owners and jobs come again and again
def encode_part(text: str) -> str:
    """Percent-encode every byte outside `A-Z a-z 0-9 _ ~ -`, upper-case hex, the dot as well."""
    return text if _PLAIN.match(text) else quote(text, safe="").replace(".", "%2E")


def encoded_length(text: str) -> int:
    """Ids are measured percent-encoded, so that every routing key fits 255 bytes."""
    return len(encode_part(text))


def is_id(text: str, limit: int = ID_MAX) -> bool:
    return len(text) <= limit and bool(_ID.match(text)) and encoded_length(text) <= limit


def is_owner(text: str) -> bool:
    fits = len(text) <= OWNER_MAX and bool(_OWNER.match(text))
    return fits and encoded_length(text) <= OWNER_MAX


def is_free_exchange(text: str) -> bool:
    """Whether an exchange beside ours and RabbitMQ's own may be called that."""
    fits = bool(_EXCHANGE.match(text)) and len(text) <= EXCHANGE_MAX
    return fits and not text.startswith(RESERVED)


def lifecycle_key(operation: str, type_: str) -> str:
    """`<operation>.<last word of type>`: a convention, nobody routes by it."""
    return f"{encode_part(operation)}.{type_.rpartition('.')[2]}"


def events_key(owner: str, operation: str, event: str, job_id: str) -> str:
    """`<owner>.<operation>.<event>.<job id>`, each part encoded."""
    return ".".join(map(encode_part, (owner, operation, event, job_id)))


def command_key(operation: str, command: str, job_id: str) -> str:
    """`<operation>.<command>.<job id>`, each part encoded."""
    return ".".join(map(encode_part, (operation, command, job_id)))


def subscription_queue(owner: str, client_id: str, name: str) -> str:
    """`sub.<owner>.<client id>.<name>`, each part encoded. Raises ValueError naming the part."""
    for what, text in {"owner": owner, "client_id": client_id, "name": name}.items():
        if not text:
            raise ValueError(f"{what}: a text that is not empty is wanted")
    queue = ".".join(["sub", *map(encode_part, (owner, client_id, name))])
    if len(queue) > QUEUE_MAX:
        raise ValueError(f"name: {queue} has more than {QUEUE_MAX} bytes, the most for a queue")
    return queue


def is_own(queue: str, first: str, user: str, parts: int) -> bool:
    """Whether the queue is `<first>.<user>.…` in so many encoded parts, none of them empty."""
    found = queue.split(".")
    return (
        len(found) == parts
        and found[:2] == [first, encode_part(user)]
        and all(map(_ENCODED.match, found))
    )


def is_own_subscription(queue: str, user: str) -> bool:
    """Whether the queue is one of the user's durable subscriptions."""
    return is_own(queue, "sub", user, SUBSCRIPTION_PARTS)


def cancels_of(operation: str) -> str:
    """The binding key for all cancel commands of one operation, or of `ANY_OPERATION`."""
    return f"{operation if operation == ANY_OPERATION else encode_part(operation)}.cancel.*"


def commands_queue(user: str, name: str) -> str:
    """An executor's queue of commands: `cmd.<user>.<name>`, encoded."""
    return ".".join(("cmd", *map(encode_part, (user, name))))
