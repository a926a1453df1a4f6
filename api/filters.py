"""The filters that lists and streams share, and the paging of lists, read from a query string."""

import re
from collections.abc import Mapping
from datetime import datetime
from math import ceil
from typing import Final

import msgspec
from starlette.datastructures import QueryParams

from api.problems import invalid
from jobcast.job import FINAL, OUTCOMES, Job, Status, milliseconds
from notifier.keys import CREATED_MAX, member

LIMIT: Final = 50
LIMIT_MAX: Final = 500
WORDS: Final = ("status", "outcome", "operation", "group")
LABEL: Final = "label."
LEAST_ID: Final = "-"  # no id comes before it
ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "status": tuple(status.value for status in Status),
    "outcome": tuple(word for words in OUTCOMES.values() for word in words),
}
RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)

Values = frozenset[str]


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Called with a job: does it belong? Within a name the values are alternatives."""

    words: Mapping[str, Values] = {}
    labels: Mapping[str, Values] = {}
    jobs: Values = frozenset()
    after_ms: float | None = None
    before_ms: float | None = None

    def __call__(self, job: Job) -> bool:
        return (
            (not self.jobs or job.id in self.jobs)
            and all(getattr(job, name) in values for name, values in self.words.items())
            and all(job.labels.get(name) in values for name, values in self.labels.items())
            and self._in_time(job)
        )

    def _in_time(self, job: Job) -> bool:
        if self.before_ms is None and self.after_ms is None:
            return True
        created = milliseconds(job.created_at)
        return (self.after_ms is None or created > self.after_ms) and (
            self.before_ms is None or created < self.before_ms
        )

    def too_old(self, job: Job) -> bool:
        """No job created before this one can belong."""
        return self.after_ms is not None and milliseconds(job.created_at) <= self.after_ms

    @property
    def begin(self) -> str | None:
        """The place in an index after which a list begins: behind the jobs that are too new."""
        if self.before_ms is None:
            return None
        return member(min(max(ceil(self.before_ms), 0), CREATED_MAX), LEAST_ID)

    @property
    def every(self) -> bool:
        """There is no filter at all."""
        return self == Filters()

    @property
    def index(self) -> str:
        """The shortest of the store's indexes that holds every job that belongs."""
        groups = self.words.get("group", frozenset())
        if len(groups) == 1 and "" not in groups:  # of the empty one there is no index
            return f"group:{next(iter(groups))}"
        statuses = self.words.get("status", frozenset())
        return "live" if statuses and not statuses & FINAL else "jobs"


def filters_of(query: QueryParams) -> Filters:
    """Raises Problem, naming the parameter."""
    words = {name: frozenset(query.getlist(name)) for name in WORDS if name in query}
    for name, allowed in ALLOWED.items():
        if not words.get(name, frozenset()) <= set(allowed):
            raise invalid(name, f"one of {', '.join(allowed)}")
    labels = {name for name in query if name.startswith(LABEL) and name != LABEL}
    return Filters(
        words=words,
        labels={name.removeprefix(LABEL): frozenset(query.getlist(name)) for name in labels},
        jobs=frozenset(query.getlist("job")),
        after_ms=_moment(query, "created_after"),
        before_ms=_moment(query, "created_before"),
    )


def _moment(query: QueryParams, name: str) -> float | None:
    """Milliseconds since 1970."""
    if name not in query:
        return None
    return moment(name, query[name])


def moment(name: str, text: str) -> float:
    """A parameter's milliseconds since 1970. Raises Problem, naming it."""
    # A plus sign that was not percent-encoded has become a space.
    text = re.sub(r" (?=\d\d:\d\d$)", "+", text)
    try:
        if RFC3339.fullmatch(text):
            return datetime.fromisoformat(text.upper().replace("Z", "+00:00")).timestamp() * 1000
    except (ValueError, OverflowError):
        pass
    raise invalid(name, "an RFC 3339 date and time with its offset, like 2026-11-21T10:00:00Z,")


def limit_of(query: QueryParams) -> int:
    """Raises Problem."""
    text = query.get("limit", str(LIMIT))
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= LIMIT_MAX:
        raise invalid("limit", f"an integer from 1 to {LIMIT_MAX}")
    return int(text)
