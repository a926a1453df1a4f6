"""Checks that what went in has come out: in Redis, and as notifications."""

from collections import Counter
from collections.abc import Sequence

import msgspec
from redis.asyncio import Redis

from bench.load import EVENTS_PER_JOB, NOTIFIED, TAIL_OWNER, Spec
from jobcast.job import Job
from notifier.keys import OwnerKeys

AT_ONCE = 500
_JOB = msgspec.json.Decoder(Job)


async def wrong_in_redis(redis: Redis, jobs: Sequence[Spec]) -> list[str]:
    """One line for each job that is not as its events say, and each feed of a wrong length."""
    wrong: list[str] = []
    for start in range(0, len(jobs), AT_ONCE):
        some = jobs[start : start + AT_ONCE]
        pipeline = redis.pipeline(transaction=False)
        for spec in some:
            pipeline.hmget(OwnerKeys(spec.owner).job(spec.job_id), "version", "snapshot")
        for spec, (version, snapshot) in zip(some, await pipeline.execute(), strict=True):
            if fault := _fault(spec, version, snapshot):
                wrong.append(f"{spec.owner}/{spec.job_id}: {fault}")
    for owner, count in Counter(spec.owner for spec in jobs).items():
        length = await redis.xlen(OwnerKeys(owner).feed)
        if length != count * len(NOTIFIED):
            wrong.append(f"feed of {owner}: {length} entries, not {count * len(NOTIFIED)}")
        if live := await redis.zcard(OwnerKeys(owner).live):
            wrong.append(f"{live} ended jobs of {owner} count as live")
    return wrong


def _fault(spec: Spec, version: bytes | None, snapshot: bytes | None) -> str:
    if version is None or snapshot is None:
        return "not stored"
    job = _JOB.decode(snapshot)
    if int(version) != EVENTS_PER_JOB or job.version != EVENTS_PER_JOB:
        return f"version {version.decode()}, not {EVENTS_PER_JOB}"
    if job.status is not spec.status:
        return f"{job.status}, not {spec.status}"
    if spec.fails != (job.error is not None) or (not spec.fails and job.percent != 100):
        return "the end's data is not there"
    return ""


def wrong_in_notifications(heard: Sequence[str], jobs: Sequence[Spec]) -> list[str]:
    """What is missing, repeated or too much among the notifications' ids."""
    wanted = {f"{spec.owner}/{spec.job_id}/{version}" for spec in jobs for version in NOTIFIED}
    counted = Counter(named for named in heard if not named.startswith(f"{TAIL_OWNER}/"))
    faults = {
        "missing": len(wanted - counted.keys()),
        "strange": len(counted.keys() - wanted),
        "repeated": sum(count - 1 for count in counted.values()),
    }
    return [f"{count} notifications are {what}" for what, count in faults.items() if count]
