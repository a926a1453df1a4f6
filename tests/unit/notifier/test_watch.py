"""Who is overdue, and when the others are looked at again."""

from jobcast.events import Started
from notifier.store import Held
from notifier.watch import AGAIN_MS, Looked, judged
from tests.unit.core.lifecycle import NOW, after, say

MEMBER = "alice/j"
LEASE_MS = 10_000
ORPHAN_MS = 3_600_000


def looked(late_ms: int, hearing_since: int) -> Looked:
    """A look at a job whose lease ran out so long ago."""
    held = Held(after(say(Started, lease_s=LEASE_MS / 1000)), b"", {})
    return judged([MEMBER], [held], ORPHAN_MS, NOW + LEASE_MS + late_ms, hearing_since)


def test_a_silent_job_is_lost_and_looked_at_again_a_lease_later() -> None:
    found = looked(1, NOW)
    assert [lost.job_id for lost in found.lost] == ["j"]
    assert found.later == {MEMBER: NOW + LEASE_MS + 1 + LEASE_MS + AGAIN_MS}


def test_a_job_that_is_heard_of_is_looked_at_when_its_lease_runs_out() -> None:
    found = looked(-4_000, NOW)
    assert found.lost == []
    assert found.later == {MEMBER: NOW + LEASE_MS}


def test_who_was_deaf_leaves_a_silent_job_to_the_others_soon() -> None:
    found = looked(1, NOW + 1)
    assert found.lost == []
    assert found.later == {MEMBER: NOW + LEASE_MS + 1 + AGAIN_MS}
