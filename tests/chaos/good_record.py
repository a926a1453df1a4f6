"""A record in which everything is as it should be, for the ledger's own test to harm."""

import msgspec

from jobcast.job import Job, Status
from tests.chaos.record import (
    Change,
    Connection,
    Delivery,
    Expected,
    Frame,
    JobKey,
    Poll,
    Record,
    Stored,
    Stream,
    Told,
    told,
)

OWNER = "alice"
JOBS: list[JobKey] = [(OWNER, f"job-{number}") for number in range(4)]
STORY = (
    (1, "queued", Status.QUEUED),
    (1, "started", Status.RUNNING),
    (1, "progressed", Status.RUNNING),
    (2, "started", Status.RUNNING),
    (2, "recorded", Status.RUNNING),
    (2, "succeeded", Status.SUCCEEDED),
)
PERCENT = {"progressed": 40.0, "succeeded": 100.0}


def representation(key: JobKey, version: int) -> bytes:
    attempt, word, status = STORY[version - 1]
    percent = PERCENT.get(word)
    job = Job(
        id=key[1],
        owner=key[0],
        status=status,
        attempt=attempt,
        version=version,
        percent=percent,
        created_at="2026-01-01T00:00:00.000Z",
        updated_at="2026-01-01T00:00:00.000Z",
    )
    return msgspec.json.encode(job)


def telling(key: JobKey, version: int, word: str | None = None) -> Told:
    return told(word or STORY[version - 1][1], representation(key, version))


def frame(key: JobKey, version: int) -> Frame:
    """Progress carries the id of the last entry in the feed."""
    one = telling(key, version)
    place = version * 10 + JOBS.index(key)
    if one.word == "progressed":
        place = (version - 1) * 10 + len(JOBS) - 1
    return Frame(one.word, f"{place}-0", one)


def good() -> Record:
    """Four jobs, told everywhere as they should be; the streams break and resume once."""
    changes = [Change(a, w) for a, w, _ in STORY if w != "progressed"]
    versions = [v for v, (_, w, _) in enumerate(STORY, start=1) if w != "progressed"]
    story = [(version, key) for version in range(1, len(STORY) + 1) for key in JOBS]
    frames = [frame(key, version) for version, key in story]
    own = JOBS[0]
    finals = {key: telling(key, len(STORY), "answer") for key in JOBS}
    return Record(
        expected={key: Expected(list(changes), [], finals[key].final, len(STORY)) for key in JOBS},
        stored={
            key: [Stored(v, telling(key, v).change, telling(key, v).digest) for v in versions]
            for key in JOBS
        },
        deliveries={
            OWNER: [
                Delivery(f"{key[0]}/{key[1]}/{version}", telling(key, version))
                for version, key in story
                if STORY[version - 1][1] not in {"progressed", "recorded"}
            ]
        },
        feeds=[
            Stream(
                OWNER,
                None,
                [
                    Connection(None, 200, "fresh", frames[:9]),
                    Connection("2-0", 200, "resumed", frames[9:]),
                ],
            )
        ],
        streams=[_own_stream(own)],
        polls=[Poll(own, [telling(own, 2, "answer"), finals[own]])],
        finals=finals,
    )


def _own_stream(key: JobKey) -> Stream:
    """Opened when the job ran already, broken once."""
    opening = [Frame("snapshot", "20-0", telling(key, 2, "snapshot")), frame(key, 3), frame(key, 4)]
    return Stream(
        key[0],
        key[1],
        [
            Connection(None, 200, "fresh", opening),
            Connection("40-0", 200, "resumed", [frame(key, 5), frame(key, 6)]),
        ],
    )
