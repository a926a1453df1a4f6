"""Events as Hypothesis draws them: for the fold few names and many clashes, for the wire all
that the bounds allow."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
from hypothesis import strategies as st

from jobcast import events as e
from jobcast.bounds import INT_MAX
from jobcast.job import NO_RESULT, JobError, Resource

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMED = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
IDS = st.text("abzAZ09._:~-", min_size=1, max_size=12)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
RESULTS = VALUES.map(
    lambda value: NO_RESULT if value is None else msgspec.Raw(msgspec.json.encode(value))
)
PERCENTS = st.floats(0, 100)
TIMES = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001,RUF100 - the zone is drawn apart
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001,RUF100
    timezones=st.integers(-840, 840).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
CODES = st.integers(-INT_MAX - 1, INT_MAX)
RESOURCES = st.builds(Resource, type=TEXT, id=TEXT)
ERRORS = st.builds(JobError, code=NAMED, message=TEXT)

COMMON: dict[str, Any] = {
    "id": NAMED,
    "source": NAMED,
    "owner": IDS,
    "job_id": IDS,
    "attempt": st.integers(1, INT_MAX),
    "sequence": st.none() | st.integers(0, 10**100 - 1),
    "time": st.none() | TIMES,
    "traceparent": st.none() | st.just("00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
}
DESCRIPTION: dict[str, Any] = {
    "operation": st.none() | IDS,
    "group": st.none() | TEXT,
    "name": st.none() | TEXT,
    "resource": st.none() | RESOURCES,
    "cancelable": st.none() | st.booleans(),
    "labels": st.none() | st.dictionaries(NAMED, TEXT, max_size=4),
    "lease_s": st.none() | st.floats(0.001, 1e9),
    "message": st.none() | TEXT,
}
STATUS_CODES = st.none() | st.integers(100, 999)
FIELDS: dict[type[e.Event], dict[str, Any]] = {
    e.Queued: DESCRIPTION,
    e.Started: DESCRIPTION,
    e.Progressed: {
        "percent": st.none() | PERCENTS,
        "targets": st.none() | st.dictionaries(NAMED, PERCENTS, max_size=4),
        "message": st.none() | TEXT,
    },
    e.Heartbeat: {},
    e.Recorded: {
        "target": NAMED,
        "code": CODES,
        "message": st.none() | TEXT,
        "group": st.none() | TEXT,
    },
    e.Succeeded: {
        "outcome": st.sampled_from([None, "normal", "warning"]),
        "status_code": STATUS_CODES,
        "result": RESULTS,
        "message": st.none() | TEXT,
    },
    e.Failed: {
        "outcome": st.sampled_from([None, "error", "partial-failures"]),
        "status_code": STATUS_CODES,
        "reason_code": st.none() | CODES,
        "error": st.none() | ERRORS,
        "result": RESULTS,
        "message": st.none() | TEXT,
    },
    e.Canceled: {"status_code": STATUS_CODES, "result": RESULTS, "message": st.none() | TEXT},
    e.CancelRequested: {},
    e.Commented: {"comment": st.none() | TEXT},
    e.Deleted: {},
    e.Lost: {"version": st.integers(0, 5), "heard_at": st.integers(0, 2**63 - 1)},
}
ANY_EVENT: st.SearchStrategy[e.Event] = st.one_of(
    [st.builds(kind, **COMMON, **fields) for kind, fields in FIELDS.items()]
)
"""Any event of any type within the bounds."""

EPOCH = datetime(2027, 1, 1, tzinfo=UTC)
CLASHING: dict[str, Any] = {
    "id": st.integers(0, 10**6).map(str),
    "source": st.just("/tests"),
    "owner": st.just("alice"),
    "job_id": st.just("j"),
    "sequence": st.none() | st.integers(0, 6),
    "time": st.none() | st.integers(0, 6).map(lambda s: EPOCH + timedelta(seconds=s)),
}
FEW: dict[str, Any] = {
    "message": st.sampled_from([None, "a", "b"]),
    "percent": st.sampled_from([None, 0.0, 33.333, 50.0]),
    "targets": st.none() | st.dictionaries(st.sampled_from("xyz"), PERCENTS, max_size=3),
    "labels": st.sampled_from([None, {}, {"a": "b"}]),
    "version": st.integers(0, 4),
}
ENDS: tuple[type[e.Event], ...] = (e.Succeeded, e.Failed, e.Canceled)


def one_job(*kinds: type[e.Event], attempts: int = 3) -> st.SearchStrategy[e.Event]:
    """Events of one job that often say the same, clash, repeat themselves and come late."""
    attempt = st.integers(1, attempts)
    return st.one_of(
        [
            st.builds(
                kind,
                **CLASHING,
                attempt=attempt,
                **{name: FEW.get(name, drawn) for name, drawn in FIELDS[kind].items()},
            )
            for kind in kinds
        ]
    )
