"""The alphabet of ids, the exchanges, and how names become parts of routing keys and queues."""

import re
from typing import Final
from urllib.parse import quote

LIFECYCLE: Final = "job.lifecycle"
EVENTS: Final = "job.events"
COMMANDS: Final = "job.commands"
QUERY: Final = "job.query"
DEAD: Final = "jobcast.dead"

ID_PATTERN: Final = r"^[A-Za-z0-9._:~-]+\Z"
OWNER_PATTERN: Final = r"^[A-Za-z0-9._:~@-]+\Z"
ID_MAX: Final = 100
OWNER_MAX: Final = 64
OPERATION_MAX: Final = 64

_ID = re.compile(ID_PATTERN)
_OWNER = re.compile(OWNER_PATTERN)
_PLAIN = re.compile(r"^[A-Za-z0-9_~-]*\Z")


def encode_part(text: str) -> str:
    """Percent-encode every byte outside `A-Z a-z 0-9 _ ~ -`, upper-case hex, the dot as well."""
    return text if _PLAIN.match(text) else quote(text, safe="").replace(".", "%2E")


def encoded_length(text: str) -> int:
    """Ids are measured percent-encoded, so that every routing key fits 255 bytes."""
    return len(encode_part(text))


def is_id(text: str, limit: int = ID_MAX) -> bool:
    return bool(_ID.match(text)) and encoded_length(text) <= limit


def is_owner(text: str) -> bool:
    return bool(_OWNER.match(text)) and encoded_length(text) <= OWNER_MAX


def lifecycle_key(operation: str, type_: str) -> str:
    """`<operation>.<last word of type>`: a convention, nobody routes by it."""
    return f"{encode_part(operation)}.{type_.rpartition('.')[2]}"


def events_key(owner: str, operation: str, event: str, job_id: str) -> str:
    """`<owner>.<operation>.<event>.<job id>`, each part encoded."""
    return ".".join(map(encode_part, (owner, operation, event, job_id)))


def command_key(operation: str, command: str, job_id: str) -> str:
    """`<operation>.<command>.<job id>`, each part encoded."""
    return ".".join(map(encode_part, (operation, command, job_id)))
