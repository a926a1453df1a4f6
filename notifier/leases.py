"""How long a job may be silent, and when it is overdue. Pure; times in ms since 1970.

A lease counts while an attempt runs; every other job that has not ended has the orphan limit. A
lease runs only while the service can hear: what it could not have heard does not count as silence.
"""

from typing import Final

from jobcast.job import Job, Status

GRACE_MS: Final = 60_000
"""Even a shorter lease gets this long after the service has begun to hear again."""
ORPHAN_GRACE_MS: Final = 3_600_000

LEASED: Final = frozenset({Status.RUNNING, Status.CANCEL_PENDING})


def limit_ms(job: Job, orphan_ms: int) -> int | None:
    """How long the job may be silent; None once it has ended."""
    if job.ended:
        return None
    if job.lease_s is not None and job.status in LEASED:
        return max(1, int(job.lease_s * 1000))
    return orphan_ms


def overdue_at(job: Job, heard_at: int, orphan_ms: int, hearing_since: int) -> int | None:
    """When the silence is too long; None once the job has ended."""
    limit = limit_ms(job, orphan_ms)
    if limit is None:
        return None
    leased = job.lease_s is not None and job.status in LEASED
    again = max(limit, GRACE_MS) if leased else min(max(limit, GRACE_MS), ORPHAN_GRACE_MS)
    if heard_at >= hearing_since:
        return heard_at + limit
    return max(heard_at + limit, hearing_since + again)


def mark_at(before: Job | None, after: Job, heard_at: int, orphan_ms: int) -> int | None:
    """When the watch must look at the job, if it would otherwise look too late; else None.

    Later events only move that time on, and the watch finds out when it looks.
    """
    limit = limit_ms(after, orphan_ms)
    if limit is None or (before is not None and limit_ms(before, orphan_ms) == limit):
        return None
    return heard_at + limit
