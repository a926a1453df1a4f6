"""The names of everything in Redis. All of one owner shares the hash tag `{owner}`: one slot."""

from typing import Final

PREFIX: Final = "jobcast"
OWNERS: Final = f"{PREFIX}:owners"
LEASES: Final = f"{PREFIX}:leases"
HEARING: Final = f"{PREFIX}:hearing"
FIGURES: Final = f"{PREFIX}:figures"
CREATED_DIGITS: Final = 13
CREATED_MAX: Final = 10**CREATED_DIGITS - 1


class OwnerKeys:
    """The keys of one owner, made once and kept."""

    __slots__ = ("ends", "feed", "jobs", "live", "prefix")

    def __init__(self, owner: str) -> None:
        self.prefix = f"{PREFIX}:{{{owner}}}:"
        self.jobs = self.prefix + "jobs"
        self.live = self.prefix + "live"
        self.ends = self.prefix + "ends"
        self.feed = self.prefix + "feed"

    def job(self, job_id: str) -> str:
        return f"{self.prefix}job:{job_id}"

    def gone(self, job_id: str) -> str:
        return f"{self.prefix}gone:{job_id}"

    def records(self, job_id: str) -> str:
        return f"{self.prefix}records:{job_id}"

    def refs(self, job_id: str) -> str:
        return f"{self.prefix}refs:{job_id}"

    def odd_groups(self, job_id: str) -> str:
        """The groups of the job's records that are not its own, "" for none."""
        return f"{self.prefix}groups:{job_id}"

    def group(self, group: str) -> str:
        """The jobs of a group."""
        return f"{self.prefix}group:{group}"

    def record_group(self, group: str) -> str:
        """The jobs that have records of a group which is not their own."""
        return f"{self.prefix}rgroup:{group}"


def channel(db: int, owner: str) -> str:
    """The pub/sub channel that wakes the listeners of one owner."""
    return f"{PREFIX}:{db}:{{{owner}}}"


def member(created_ms: int, job_id: str) -> str:
    """How a job stands in an index: its order is that of creation."""
    return f"{created_ms:0{CREATED_DIGITS}d}:{job_id}"


def job_of(index_member: str) -> str:
    return index_member[CREATED_DIGITS + 1 :]


def lease(owner: str, job_id: str) -> str:
    """How a job stands among the leases; neither name can hold a slash."""
    return f"{owner}/{job_id}"


def tries(fingerprint: str) -> str:
    """How often work on an event was begun that may be what ends the process."""
    return f"{PREFIX}:tries:{fingerprint}"


def figures_of(notifier: str) -> str:
    """What one notifier has counted, as long as it lives."""
    return f"{FIGURES}:{notifier}"


def leased_job(lease_member: str) -> tuple[str, str]:
    """(owner, job id)"""
    owner, _, job_id = lease_member.partition("/")
    return owner, job_id
