"""What the query of a list asks for: conditions, order, place. Pure.

Promises: a parameter that is empty or not one of ours changes nothing; one of ours with a bad value
is a Problem that begins with its name; no value costs more than its length.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from starlette.datastructures import QueryParams

from api.filters import moment
from api.problems import invalid

Comparison = Callable[[Any, Any], Any]

FIELDS: Final = (
    "key",
    "name",
    "type",
    "state",
    "status",
    "submit_time",
    "complete_time",
    "parent_job_key",
)
TIMES: Final = frozenset({"submit_time", "complete_time"})
ANY_CASE: Final = frozenset({"state", "status"})
DIRECTIONS: Final = {"asc": False, "desc": True}
COMPARISONS: Final[Mapping[str, Comparison]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
RECORDS: Final = 20
RECORDS_MAX: Final = 500
OFFSET_MAX: Final = 10**9
CONDITIONS_MAX: Final = 64

Facts = Mapping[str, str | None]
Rank = float | str
Test = Callable[[str | None], bool]
Row = tuple[tuple[bool, Rank], ...]
"""The values by which a job is ordered; what is not set counts as larger than all."""


class Search(Struct, frozen=True):
    """`tests`: field and test, all of which hold; `order`: field, and whether it descends."""

    tests: Sequence[tuple[str, Test]]
    order: Sequence[tuple[str, bool]]
    offset: int
    limit: int

    def __call__(self, facts: Facts) -> bool:
        return all(test(facts[field]) for field, test in self.tests)

    @property
    def by_creation(self) -> bool | None:
        """The store's own order is wanted, of all jobs: whether oldest first. None if it is not."""
        if self.tests or self.order not in (
            (),
            (("submit_time", True),),
            (("submit_time", False),),
        ):
            return None
        return self.order == (("submit_time", False),)

    def row(self, facts: Facts) -> Row:
        return tuple(_placed(field, facts[field]) for field, _ in self.order)


def search_of(query: QueryParams) -> Search:
    """Raises Problem."""
    tests: list[tuple[str, Test]] = []
    count = 0
    for name, value in query.multi_items():
        if name in FIELDS and value:
            alternatives = value.split("|")
            count += len(alternatives)
            tests.append((name, _any([_test(name, one) for one in alternatives])))
    if count > CONDITIONS_MAX:
        raise invalid(tests[-1][0], f"a list with at most {CONDITIONS_MAX} values to compare with")
    limit = _integer(query, "max_records", RECORDS, 1)
    offset = _integer(query, "offset", 0, 0)
    return Search(tests, _order(query.get("order_by", "")), offset, min(limit, RECORDS_MAX))


def ordered(rows: Sequence[tuple[Row, tuple[str, str]]], search: Search) -> list[tuple[str, str]]:
    """The names of jobs, given newest first with their rows; equal ones stay newest first."""
    found = list(rows)
    for at, (_, descending) in reversed(list(enumerate(search.order))):
        found.sort(key=lambda row: row[0][at], reverse=descending)
    return [name for _, name in found]


def rank(field: str, text: str) -> Rank:
    """What a value is compared by."""
    return moment(field, text) if field in TIMES else _cased(field, text)


def _placed(field: str, text: str | None) -> tuple[bool, Rank]:
    return (True, "") if text is None else (False, rank(field, text))


def _any(tests: Sequence[Test]) -> Test:
    return lambda value: any(test(value) for test in tests)


def _test(field: str, text: str) -> Test:
    plain = text.lstrip("!")
    test = _positive(field, plain)
    denied = (len(text) - len(plain)) % 2 == 1
    return (lambda value: not test(value)) if denied else test


def _positive(field: str, text: str) -> Test:
    for sign, holds in COMPARISONS.items():
        if text.startswith(sign):
            return _compared(field, text.removeprefix(sign), holds)
    if "*" in text:
        parts = _cased(field, text).split("*")
        return lambda value: value is not None and _matches(parts, _cased(field, value))
    return _compared(field, text, operator.eq)


def _compared(field: str, text: str, holds: Comparison) -> Test:
    wanted = rank(field, text)
    return lambda value: value is not None and bool(holds(rank(field, value), wanted))


def _matches(parts: Sequence[str], text: str) -> bool:
    """Whether the parts stand in the text, in this order, from its beginning to its end."""
    first, *middle, last = parts
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _cased(field: str, text: str) -> str:
    return text.casefold() if field in ANY_CASE else text


def _order(text: str) -> Sequence[tuple[str, bool]]:
    """`field [asc|desc]`, several with commas; a direction alone is that of `submit_time`."""
    order: list[tuple[str, bool]] = []
    for part in text.split(","):
        words = part.split()
        if len(words) == 1 and words[0].lower() in DIRECTIONS:
            words.insert(0, "submit_time")
        if not words:
            continue
        field, direction, *more = [*words, "asc"] if len(words) == 1 else words
        if field not in FIELDS or direction.lower() not in DIRECTIONS or more:
            raise invalid("order_by", f"one of {', '.join(FIELDS)}, with asc or desc after it,")
        if field not in {known for known, _ in order}:
            order.append((field, DIRECTIONS[direction.lower()]))
    return tuple(order)


def _integer(query: QueryParams, name: str, default: int, low: int) -> int:
    text = query.get(name) or str(default)
    if text.isascii() and text.isdigit() and len(text) <= len(str(OFFSET_MAX)):
        number = int(text)
        if low <= number <= OFFSET_MAX:
            return number
    raise invalid(name, f"an integer from {low} to {OFFSET_MAX}")
