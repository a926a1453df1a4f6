"""One event of each type with every field that it may have: what the golden files hold."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from jobcast import events as e
from jobcast.job import JobError, Resource

COMMON: Final[Mapping[str, Any]] = {
    "source": "/executors/backup-7",
    "owner": "alice@example.org",
    "job_id": "86e44546-107f-11e1-bde0-0010184c8334",
    "attempt": 2,
    "sequence": 17,
    "time": datetime(2026, 11, 21, 10, 0, 0, 250_000, tzinfo=UTC),
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}
DESCRIPTION: Final[Mapping[str, Any]] = {
    "operation": "backup",
    "group": "nightly",
    "name": "Backup of vol1",
    "resource": Resource("volume", "vol1"),
    "cancelable": False,
    "labels": {"site": "Zürich"},
    "lease_s": 90.5,
    "message": "waiting for a slot",
}
RESULT: Final = msgspec.Raw(b'{"bytes":123456789012345678901234567890,"files":[1,2.5,null]}')

EXAMPLES: Final[tuple[e.Event, ...]] = (
    e.Queued(id="e1", **COMMON, **DESCRIPTION),
    e.Started(id="e2", **COMMON, **DESCRIPTION),
    e.Progressed(
        id="e3", **COMMON, percent=40.5, targets={"vol1": 81, "vol2": 0}, message="copying"
    ),
    e.Heartbeat(id="e4", **COMMON),
    e.Recorded(id="e5", **COMMON, target="vol1", code=-3, message="slow", group="night 7"),
    e.Succeeded(
        id="e6", **COMMON, outcome="warning", status_code=204, result=RESULT, message="done"
    ),
    e.Failed(
        id="e7",
        **COMMON,
        outcome="partial-failures",
        status_code=507,
        reason_code=28,
        error=JobError("disk-full", "no space left"),
        result=RESULT,
        message="gave up",
    ),
    e.Canceled(id="e8", **COMMON, status_code=499, message="stopped", result=RESULT),
    e.CancelRequested(id="e9", **COMMON),
    e.Commented(id="e10", **COMMON, comment="mine"),
    e.Deleted(id="e11", **COMMON),
    e.Lost(id="e12", **COMMON, version=7, heard_at=1_800_000_000_123),
)
