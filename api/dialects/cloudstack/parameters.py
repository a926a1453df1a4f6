"""What a request asks for: the parameters of CloudStack's API, read.

Promises: `command` and `response` are what they are called; any other name may be written in upper
or lower case; what cannot be read is a Problem that names the parameter. An empty one is not there.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from starlette.requests import Request

from api.body import LINE, bounded
from api.facility import LOOKED_AT_MAX
from api.problems import Problem, invalid
from jobcast.wire import media_type

FIELDS_MAX: Final = 100
FORM: Final = "application/x-www-form-urlencoded"
PAGE_SIZE: Final = 500
"""The default, and the most."""
UNLIMITED: Final = -1
INT_MAX: Final = 2**31 - 1
DIGITS_MAX: Final = 12


class Window(NamedTuple):
    offset: int
    limit: int


class Parameters:
    """`given`: by their names as they were written, which is what is signed."""

    def __init__(self, query: Mapping[str, str], form: Mapping[str, str] | None = None) -> None:
        form = form or {}
        self.given = {**form, **query}
        self.command = self.given.get("command") or ""
        self.json = self.given.get("response", "").lower() == "json"
        # In the order of the names, so that of two that differ in case the same one always counts.
        self._values = {
            name.lower(): value
            for source in (form, query)
            for name, value in sorted(source.items())
            if value
        }

    def get(self, name: str) -> str | None:
        """`name` in lower case."""
        return self._values.get(name)

    def wanted(self, name: str) -> str:
        """Raises Problem where it is missing."""
        value = self.get(name)
        if value is None:
            raise invalid(name, "a value")
        return value

    def flag(self, name: str) -> bool:
        """As in Java, all but `true` is false."""
        return (self.get(name) or "").lower() == "true"

    def integer(self, name: str) -> int | None:
        value = self.get(name)
        if value is None:
            return None
        try:
            number = int(value) if value.isascii() and len(value) <= DIGITS_MAX else INT_MAX + 1
        except ValueError:
            number = INT_MAX + 1
        if abs(number) > INT_MAX:
            raise invalid(name, "an integer")
        return number

    def since(self, name: str) -> float | None:
        """Seconds since 1970; a time without an offset is taken for UTC."""
        value = self.get(name)
        if value is None:
            return None
        try:
            read = datetime.fromisoformat(value)
            return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            raise invalid(name, "a date as 2026-11-21 or 2026-11-21T01:00:00+0000") from None

    def window(self) -> Window:
        """The part of a list that `page` and `pagesize` want."""
        page, size = self.integer("page"), self.integer("pagesize")
        if size == UNLIMITED:
            if page is not None:
                raise invalid("page", "none with pagesize=-1")
            return Window(0, LOOKED_AT_MAX)
        if page is None and size is None:
            return Window(0, PAGE_SIZE)
        if page is None or size is None:
            raise invalid("page" if page is None else "pagesize", "both page and pagesize, or none")
        if not 1 <= size <= PAGE_SIZE:
            raise invalid("pagesize", f"1 to {PAGE_SIZE}, or -1 for all,")
        return Window((max(page, 1) - 1) * size, size)


def of_query(request: Request) -> Parameters:
    """Raises Problem."""
    return Parameters(_fields(request.scope["query_string"].decode("latin-1")))


async def of_request(request: Request) -> Parameters:
    """Those of the query and of a form; the query's count where both have one. Raises Problem,
    ClientDisconnect."""
    query = _fields(request.scope["query_string"].decode("latin-1"))
    if request.method != "POST" or media_type(request.headers.get("content-type")) != FORM:
        return Parameters(query)
    return Parameters(query, _fields((await bounded(request, LINE)).decode("latin-1")))


def _fields(text: str) -> dict[str, str]:
    """The first value of each name."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError:
        raise Problem("bad-request", f"at most {FIELDS_MAX} parameters are wanted") from None
    return dict(reversed(pairs))
