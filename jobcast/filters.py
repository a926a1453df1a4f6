"""Which jobs a client is told of: as query parameters over HTTP, as binding keys over AMQP."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import product
from typing import Any, Final, TypedDict

from msgspec import Struct

from jobcast.job import ANNOUNCED
from jobcast.names import OPERATION_MAX, encode_part, is_id, is_owner
from jobcast.notification import Notification

Some = str | Sequence[str]
"""One value, or several: any of them."""

EVENTS: Final = (*dict.fromkeys(ANNOUNCED.values()), "progressed")
KEYS_MAX: Final = 100
EVERY: Final = "*"


class Filters(TypedDict, total=False):
    """Which jobs (docs/protocol.md § 7). Several values of one filter: any of them."""

    status: Some
    outcome: Some
    operation: Some
    group: Some
    labels: Mapping[str, Some]
    created_after: datetime | str
    created_before: datetime | str
    job: Some
    owner: str


def params(filters: Filters) -> Sequence[tuple[str, str]]:
    """Query parameters, one for each value."""
    pairs: list[tuple[str, str]] = []
    plain: dict[str, Any] = {name: value for name, value in filters.items() if name != "labels"}
    labels = {f"label.{name}": value for name, value in filters.get("labels", {}).items()}
    for name, value in (plain | labels).items():
        values = [value] if isinstance(value, str | datetime) else value
        pairs += [(name, v.isoformat() if isinstance(v, datetime) else v) for v in values]
    return pairs


class Interest(Struct, frozen=True):
    """What a subscription wants to hear of. Nothing given: everything."""

    owners: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()

    @property
    def keys(self) -> list[str]:
        """The binding keys: `<owner>.<operation>.<event>.<job id>`."""
        parts = [
            [encode_part(value) for value in values] or [EVERY]
            for values in (self.owners, self.operations, self.events, self.jobs)
        ]
        return [".".join(key) for key in product(*parts)]

    def matches(self, notification: Notification) -> bool:
        """What a binding of an earlier interest still lets through does not match."""
        job = notification.job
        return all(
            not wanted or value in wanted
            for wanted, value in (
                (self.owners, job.owner),
                (self.operations, job.operation),
                (self.events, notification.event),
                (self.jobs, job.id),
            )
        )


def interest(owner: Some, operation: Some | None, event: Some | None, job: Some | None) -> Interest:
    """Raises ValueError naming the filter; `owner="*"` is everybody, which only admins may hear."""
    wanted = Interest(
        owners=() if owner == EVERY else _values(owner),
        operations=_values(operation),
        events=_values(event),
        jobs=_values(job),
    )
    _check("owner", [name for name in wanted.owners if not is_owner(name)])
    _check("operation", [name for name in wanted.operations if not is_id(name, OPERATION_MAX)])
    _check("event", [name for name in wanted.events if name not in EVENTS], ", ".join(EVENTS))
    _check("job", [name for name in wanted.jobs if not is_id(name)])
    if len(wanted.keys) > KEYS_MAX:
        raise ValueError(
            f"owner, operation, event, job: more than {KEYS_MAX} combinations of their values"
        )
    return wanted


def _values(given: Some | None) -> tuple[str, ...]:
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))


def _check(name: str, bad: Sequence[str], allowed: str = "") -> None:
    if bad:
        wanted = f"one of {allowed} is wanted" if allowed else "not a name that there can be"
        raise ValueError(f"{name}: {bad[0]!r}: {wanted}")
