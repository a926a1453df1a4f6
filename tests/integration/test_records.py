"""Records in Redis: of a job, of a group, and what is left of them afterwards."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from jobcast.events import Commented, Deleted, Event, Queued, Recorded, Started, Succeeded
from notifier import records as records_module
from notifier.records import Records, Window
from notifier.store import Gone
from tests.eventually import eventually
from tests.integration.lab import Lab


def record(lab: Lab, job: str, target: str, group: str | None = None) -> Event:
    return lab.say(Recorded, job, target=target, code=0, group=group)


async def of_group(
    lab: Lab, group: str, offset: int = 0, limit: int | None = None
) -> tuple[list[str], int]:
    """The targets, and the total."""
    window = Window(offset, limit)
    await Records(lab.redis).of_group(lab.owner, group, window)
    return targets(window.records), window.total


def targets(records: Sequence[bytes]) -> list[str]:
    return [msgspec.json.decode(one)["target"] for one in records]


async def odd_keys(lab: Lab) -> set[str]:
    own: Any = await lab.own_keys()
    return {key.removeprefix(lab.keys.prefix) for key in own if "group" in key}


async def test_records_of_a_group_come_by_creation_of_the_job_and_then_as_they_arrived(
    lab: Lab,
) -> None:
    for number in range(3):
        await lab.tell(lab.say(Queued, f"j{number}", group="g"))
        lab.ahead_ms += 5
    await lab.tell(record(lab, "j2", "c1"), record(lab, "j0", "a1"), record(lab, "j1", "b1"))
    await lab.tell(record(lab, "j0", "a2"), record(lab, "j2", "c2"))
    wanted = ["a1", "a2", "b1", "c1", "c2"]
    assert await of_group(lab, "g") == (wanted, 5)
    for offset in range(7):
        for limit in range(4):
            assert await of_group(lab, "g", offset, limit) == (wanted[offset:][:limit], 5)
    assert await of_group(lab, "h") == ([], 0)


async def test_a_record_of_another_group_is_found_there_and_not_at_its_jobs(lab: Lab) -> None:
    await lab.tell(lab.say(Queued, "in", group="g"), lab.say(Queued, "out", group="h"))
    lab.ahead_ms += 5
    await lab.tell(lab.say(Queued, "none"))
    await lab.tell(record(lab, "in", "i1"), record(lab, "in", "i2", "h"), record(lab, "in", "i3"))
    await lab.tell(record(lab, "out", "o1", "g"), record(lab, "none", "n1", "g"))
    await lab.tell(record(lab, "none", "n2"), record(lab, "none", "n3", "k"))
    assert await of_group(lab, "g") == (["i1", "i3", "o1", "n1"], 4)
    assert await of_group(lab, "g", 2, 1) == (["o1"], 4)
    assert await of_group(lab, "h") == (["i2"], 1)
    assert await of_group(lab, "k") == (["n3"], 1)


async def test_records_from_before_the_job_had_a_group_are_of_none(lab: Lab) -> None:
    await lab.tell(lab.say(Started), record(lab, "j", "before"))
    await lab.tell(lab.say(Started, group="g"), record(lab, "j", "after"))
    assert await of_group(lab, "g") == (["after"], 1)
    together = [lab.say(Started, "k"), record(lab, "k", "early", "g"), record(lab, "k", "none")]
    await lab.tell(*together, lab.say(Started, "k", group="g"), record(lab, "k", "late"))
    assert await of_group(lab, "g") == (["after", "early", "late"], 3)


async def test_records_of_the_jobs_own_group_write_nothing_more(lab: Lab) -> None:
    await lab.tell(lab.say(Queued, "j", group="g"), lab.say(Queued, "k"))
    await lab.tell(record(lab, "j", "a"), record(lab, "j", "b", "g"), record(lab, "k", "c"))
    await lab.tell(lab.say(Succeeded, "j"), lab.say(Succeeded, "k"))
    assert await odd_keys(lab) == {"group:g"}


async def test_a_repeated_record_is_kept_once(lab: Lab) -> None:
    said = record(lab, "j", "t", "g")
    await lab.tell(lab.say(Queued), said, said)
    lab.restart()
    await lab.tell(said)
    assert await of_group(lab, "g") == (["t"], 1)


async def test_with_a_deletion_the_records_are_gone_from_every_index(lab: Lab) -> None:
    await lab.tell(lab.say(Queued, "j", group="g"), record(lab, "j", "a"))
    await lab.tell(record(lab, "j", "b", "h"))
    await lab.tell(lab.say(Succeeded, "j"), record(lab, "j", "c", "k"))
    assert await odd_keys(lab) == {"group:g", "groups:j", "rgroup:h", "rgroup:k"}
    await lab.tell(lab.say(Deleted, "j"))
    assert set(await lab.own_keys()) == {lab.keys.feed, lab.keys.gone("j")}
    assert await Records(lab.redis).count(lab.owner, "j") == Gone(deleted=True)


async def test_with_the_expiry_of_the_job_the_records_are_gone_from_every_index(lab: Lab) -> None:
    short = Lab(lab.redis, lab.owner, retention_s=1)
    await short.tell(short.say(Queued, "j", group="g"), record(short, "j", "a"))
    await short.tell(record(short, "j", "b", "h"))
    await short.tell(short.say(Succeeded, "j"), record(short, "j", "c", "k"))
    keys = await short.own_keys()
    expiring = [short.keys.job("j"), short.keys.records("j"), short.keys.odd_groups("j")]
    assert max(keys[key] for key in expiring) - min(keys[key] for key in expiring) <= 5
    owners_own = keys[short.keys.feed]
    for group in "hk":
        assert keys[short.keys.record_group(group)] == pytest.approx(owners_own, abs=1_000)
    await eventually(short.gone)
    for group in "ghk":
        assert await of_group(short, group) == ([], 0)
    assert await Records(lab.redis).count(lab.owner, "j") == Gone(deleted=False)
    await short.tell(short.say(Queued, "new"))  # a commit takes out what has expired
    assert await odd_keys(short) == set()
    assert await lab.redis.zcard(lab.keys.ends) == 0


async def test_jobs_with_many_groups_of_records_leave_nothing_behind(lab: Lab) -> None:
    short = Lab(lab.redis, lab.owner, retention_s=1)
    for number in range(6):
        job, groups = f"j{number}", range(50)
        await short.tell(*(record(short, job, "t", f"{number}-{group}") for group in groups))
        await short.tell(short.say(Succeeded, job))
        short.ahead_ms += 1_100  # it has expired, as far as the next commit knows
    await short.tell(short.say(Queued, "new"))
    assert await short.members("jobs") == ["new"]
    assert await lab.redis.zcard(lab.keys.ends) <= 51


async def test_the_second_index_lives_as_long_as_the_owners_other_keys(lab: Lab) -> None:
    await lab.tell(lab.say(Queued), record(lab, "j", "a", "h"))
    await lab.redis.pexpire(lab.keys.record_group("h"), 60_000)
    lab.restart()  # its first commit renews
    await lab.tell(lab.say(Commented, comment="c"))
    keys = await lab.own_keys()
    assert keys[lab.keys.record_group("h")] == pytest.approx(keys[lab.keys.feed], abs=1_000)


async def test_many_jobs_and_records_are_read_in_portions(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "JOBS", 3)
    monkeypatch.setattr(records_module, "PORTION", 4)
    wanted: dict[str, list[str]] = {"g": [], "h": []}
    for number in range(1, 11):
        job, own = f"j{number}", "gh"[number % 2]
        other = "hg"[number % 2]
        await lab.tell(lab.say(Queued, job, group=own))
        said = []
        for at in range(number):
            group = other if at % 3 == 1 and number % 4 else own
            said.append(record(lab, job, f"{job}-{at}", group))
            wanted[group].append(f"{job}-{at}")
        await lab.tell(*said)
        lab.ahead_ms += 5
    for group, names in wanted.items():
        assert await of_group(lab, group) == (names, len(names))
        for offset in range(0, len(names), 5):
            for limit in (1, 4, 5, 9):
                found = await of_group(lab, group, offset, limit)
                assert found == (names[offset:][:limit], len(names))


async def test_an_answer_is_bounded_and_its_total_is_not(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.tell(lab.say(Queued, group="g"), *(record(lab, "j", f"t{n}") for n in range(50)))
    monkeypatch.setattr(records_module, "ANSWER_MAX", 7)
    assert await of_group(lab, "g", 45) == ([f"t{n}" for n in range(45, 50)], 50)
    found, total = await of_group(lab, "g", 3)
    assert (found, total) == ([f"t{n}" for n in range(3, 10)], 50)
    monkeypatch.setattr(records_module, "ANSWER_BYTES", 250)
    found, total = await of_group(lab, "g", 3)
    assert found == [f"t{n}" for n in range(3, 3 + len(found))]
    assert 1 <= len(found) < 7
    assert total == 50
