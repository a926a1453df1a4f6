"""The result of a job: any JSON, kept as one compact line, its size and depth bounded."""

from typing import Final

import msgspec
from msgspec import Raw

from jobcast.bounds import RESULT_MAX
from jobcast.errors import Refusal
from jobcast.job import NO_RESULT
from jobcast.reasons import UNREADABLE, explain

DEPTH_MAX: Final = 100


def compact(raw: Raw) -> Raw | Refusal:
    """The result as compact JSON, or why it cannot be kept."""
    if bytes(raw) == b"null":
        return NO_RESULT
    try:
        value = msgspec.json.decode(raw)
        if _depth(value) > DEPTH_MAX:
            return Refusal("too-deep", f"data.result: nested deeper than {DEPTH_MAX}")
        line = msgspec.json.encode(value)
    except UNREADABLE as error:
        return Refusal(*explain(error, "data.result"))
    if len(line) > RESULT_MAX:
        return Refusal("too-long", f"data.result: more than {RESULT_MAX} bytes of compact JSON")
    return Raw(line)


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while level and depth <= DEPTH_MAX:
        depth += 1
        inner = [
            v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)
        ]
        level = [item for items in inner for item in items]
    return depth
