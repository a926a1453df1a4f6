"""Two services on one job, and a Redis that does not say what became of a commit."""

import asyncio
from pathlib import Path

from deploy.redis import RedisNode
from jobcast.events import Progressed, Queued, Recorded, Started, Succeeded
from notifier.connection import connect
from tests.eventually import eventually
from tests.integration.lab import Lab
from tests.integration.proxy import proxying


async def test_two_services_on_one_job_both_make_progress_and_lose_nothing(lab: Lab) -> None:
    other = Lab(lab.redis, lab.owner)
    await lab.tell(lab.say(Started))

    async def write(service: Lab, source: str) -> None:
        for number in range(60):
            await service.tell(
                service.say(Recorded, target=source, code=number),
                service.say(Progressed, targets={f"{source}-{number}": 1.0}),
            )

    await asyncio.gather(write(lab, "left"), write(other, "right"))
    job = await lab.job()
    assert len(job.targets) == 120
    assert job.version == 1 + 4 * 60
    assert await lab.redis.llen(lab.keys.records("j")) == 120
    entries = await lab.entries()
    assert [entry.prev for entry in entries[1:]] == [entry.cursor for entry in entries[:-1]]
    versions = [entry.version for entry in entries]
    assert versions == sorted(set(versions))


async def test_an_end_folded_from_an_old_version_is_folded_again(lab: Lab) -> None:
    other = Lab(lab.redis, lab.owner)
    await lab.tell(lab.say(Started))
    await other.tell(other.say(Progressed, percent=5))
    await lab.tell(lab.say(Succeeded))  # as lab remembers it, the job is at version 1
    await other.tell(other.say(Started, attempt=2), other.say(Recorded, target="t", code=0))
    job = await lab.job()
    assert (job.status, job.version, job.attempt) == ("succeeded", 4, 1)
    assert (lab.told.ids, other.told.ids) == (["j/1", "j/3"], [])


async def test_two_services_that_create_one_job_create_it_once(lab: Lab) -> None:
    other = Lab(lab.redis, lab.owner)
    for number in range(30):
        job = f"j{number}"
        await asyncio.gather(
            lab.tell(lab.say(Queued, job, group="left")),
            other.tell(other.say(Started, job, group="right")),
        )
    words = [(entry.job_id, entry.version) for entry in await lab.entries()]
    assert len(words) == len(set(words))
    for number in range(30):
        assert (await lab.job(f"j{number}")).status == "running"


async def test_a_deletion_elsewhere_makes_what_is_remembered_here_late(lab: Lab) -> None:
    other = Lab(lab.redis, lab.owner)
    await lab.tell(lab.say(Succeeded))
    await other.redis.delete(lab.keys.job("j"))  # the tombstone stands
    await lab.tell(lab.say(Recorded, target="t", code=0))
    assert await lab.gone() is not None
    assert await lab.redis.exists(lab.keys.records("j")) == 0


async def test_a_commit_whose_answer_is_lost_is_looked_up_and_not_made_twice(
    redis_server: RedisNode, lab: Lab
) -> None:
    async with proxying(redis_server.port) as proxy:
        redis = connect(f"redis://127.0.0.1:{proxy.port}/0", name="jobcast-test")
        remote = Lab(redis, lab.owner)
        await remote.tell(remote.say(Queued))
        for number in range(5):
            proxy.lose(b"EVALSHA")
            await remote.tell(
                remote.say(Started, attempt=number + 2),
                remote.say(Recorded, attempt=number + 2, target="t", code=number),
                remote.say(Started, f"new-{number}"),
            )
        await redis.aclose()
    assert proxy.lost == 5
    job = await lab.job()
    assert (job.attempt, job.version) == (6, 11)
    assert await lab.redis.llen(lab.keys.records("j")) == 5
    assert len(await lab.entries()) == 16
    told = [f"j/{version}" for version in (1, 2, 4, 6, 8, 10)]
    assert [name for name in remote.told.ids if name.startswith("j/")] == told
    assert {f"new-{number}/1" for number in range(5)} <= set(remote.told.ids)


async def test_a_redis_that_has_forgotten_the_script_is_given_it_again(lab: Lab) -> None:
    await lab.tell(lab.say(Started))
    await lab.redis.script_flush()
    await lab.tell(lab.say(Progressed, percent=5), lab.say(Started, "k"))
    await lab.redis.script_flush()
    await lab.tell(lab.say(Succeeded), lab.say(Succeeded, "k"))
    assert (await lab.job()).version == 3
    assert await lab.words() == ["started", "started", "succeeded", "succeeded"]


async def test_a_batch_waits_for_a_redis_that_is_away(tmp_path: Path, owner: str) -> None:
    with RedisNode(tmp_path) as node:
        redis = connect(node.url, name="jobcast-test")
        lab = Lab(redis, owner)
        await lab.tell(lab.say(Started))
        node.kill()
        waiting = asyncio.create_task(lab.tell(lab.say(Progressed, percent=5), lab.say(Succeeded)))
        await asyncio.wait([waiting], timeout=0.5)
        assert not waiting.done()
        assert lab.told.ids == ["j/1"]
        node.start()
        await asyncio.wait_for(waiting, 10)
        assert lab.told.ids == ["j/1", "j/3"]
        assert (await eventually(lab.job)).version == 3
        await redis.aclose()
