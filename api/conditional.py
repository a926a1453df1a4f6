"""What a request for a job may add: the versions it has seen, and how long it will wait."""

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from api.problems import invalid

WAIT_MAX_S: Final = 60.0
ENTITY_TAG: Final = re.compile(r'(?:W/)?"([^"]*)"')
PREFER_WAIT: Final = re.compile(r'(?:^|,)\s*wait\s*=\s*("[^"]*"|[^,;]*)', re.IGNORECASE)
NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")

Seen = Callable[[int], bool]


class Wait(NamedTuple):
    """Seconds to wait, 0 for not at all, and what `Preference-Applied` says of it."""

    seconds: float
    applied: str | None


def etag(version: int) -> str:
    return f'"{version}"'


def seen_by(if_none_match: Sequence[str]) -> Seen | None:
    """Which versions `If-None-Match` (all its lines) names, compared weakly; None: no such line."""
    if not if_none_match:
        return None
    text = ",".join(if_none_match)
    if text.strip() == "*":
        return lambda version: True
    tags = frozenset(ENTITY_TAG.findall(text))
    return lambda version: str(version) in tags


def wait_of(query: str | None, prefer: Sequence[str]) -> Wait:
    """From `?wait=S`, else from `Prefer: wait=S`. Raises Problem, naming which of them is wrong."""
    if query is not None:
        return Wait(_seconds("wait", query), None)
    found = PREFER_WAIT.search(",".join(prefer))
    if found is None:
        return Wait(0.0, None)
    seconds = _seconds("Prefer: wait", found[1].strip().strip('"'))
    return Wait(seconds, f"wait={seconds:g}")


def _seconds(field: str, text: str) -> float:
    if not NUMBER.fullmatch(text.strip()):
        raise invalid(field, "a number of seconds, 0 or more,")
    return min(float(text), WAIT_MAX_S)
