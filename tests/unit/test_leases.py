"""When silence is too long."""

from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from jobcast.job import Job, Status, timestamp
from notifier.leases import GRACE_MS, ORPHAN_GRACE_MS, limit_ms, mark_at, overdue_at

ORPHAN_MS = 7 * 86_400_000
NOW = 1_795_000_000_000


def job(status: Status = Status.RUNNING, lease_s: float | None = 10) -> Job:
    at = timestamp(NOW)
    return Job(id="j", owner="o", status=status, lease_s=lease_s, created_at=at, updated_at=at)


@dataclass
class Case:
    status: Status
    lease_s: float | None
    limit: int | None


@pytest.mark.parametrize(
    "case",
    [
        Case(Status.QUEUED, 10, ORPHAN_MS),
        Case(Status.RUNNING, 10, 10_000),
        Case(Status.RUNNING, None, ORPHAN_MS),
        Case(Status.CANCEL_PENDING, 0.5, 500),
        Case(Status.SUCCEEDED, 10, None),
    ],
)
def test_a_lease_counts_while_an_attempt_runs_and_the_orphan_limit_otherwise(case: Case) -> None:
    assert limit_ms(job(case.status, case.lease_s), ORPHAN_MS) == case.limit


def test_a_job_heard_of_since_we_listen_is_overdue_after_its_lease() -> None:
    assert overdue_at(job(), NOW, ORPHAN_MS, NOW - 1) == NOW + 10_000


def test_after_deafness_every_lease_starts_again_with_at_least_a_minute() -> None:
    since = NOW + 30_000
    assert overdue_at(job(), NOW, ORPHAN_MS, since) == since + GRACE_MS
    assert overdue_at(job(lease_s=600), NOW, ORPHAN_MS, since) == since + 600_000


def test_deafness_does_not_start_the_orphan_limit_again_but_gives_an_hour() -> None:
    lonely = job(lease_s=None)
    assert overdue_at(lonely, NOW, ORPHAN_MS, NOW + 1) == NOW + ORPHAN_MS
    late = NOW + ORPHAN_MS
    assert overdue_at(lonely, NOW, ORPHAN_MS, late) == late + ORPHAN_GRACE_MS


def test_the_watch_is_told_of_new_jobs_and_of_limits_that_change() -> None:
    queued, running = job(Status.QUEUED), job()
    assert mark_at(None, queued, NOW, ORPHAN_MS) == NOW + ORPHAN_MS
    assert mark_at(queued, running, NOW, ORPHAN_MS) == NOW + 10_000
    assert mark_at(running, replace(running, percent=5.0), NOW, ORPHAN_MS) is None
    assert mark_at(running, job(Status.SUCCEEDED), NOW, ORPHAN_MS) is None
