"""Cisco License Manager's functions on many at once: lists, pages, deletions."""

import pytest

from examples import clm_client as clm
from examples.clm_client import Pagination
from tests.dialects.cisco.clm import FIRST, UNKNOWN, Clm, ok
from tests.eventually import eventually


async def test_records_are_deleted_each_with_its_own_answer(alice: Clm, bob: Clm, job: str) -> None:
    names = [f"{job}-{n}" for n in range(20)]
    alice.executor.report("succeeded", *names)
    alice.executor.report("started", f"{job}-running")
    bob.executor.report("succeeded", f"{job}-foreign")
    for name in [*names, f"{job}-running"]:
        await alice.until(name)
    await bob.until(f"{job}-foreign")
    asked = [UNKNOWN, names[0], f"{job}-running", names[0], f"{job}-foreign", "no id!", *names[1:]]
    status = alice.manager.deleteAsyncOperationJobRecords([*asked, UNKNOWN])
    ok(clm.Status(status.errorCode, status.errorName, status.errorMessage))
    assert [item.id for item in status.items] == [*asked, UNKNOWN]
    assert [item.errorCode for item in status.items] == [
        clm.JOB_ID_NOT_FOUND,
        clm.SUCCESS,
        clm.JOB_RUNNING,
        clm.DUPLICATE_ID,
        clm.JOB_ID_NOT_FOUND,
        clm.JOB_ID_NOT_FOUND,
        *[clm.SUCCESS] * 19,
        clm.DUPLICATE_ID,
    ]
    left = alice.manager.listAllAsyncOperationJobRecords(include_all_user=False).jobs
    assert [one.jobId for one in left] == [f"{job}-running"]
    assert alice.manager.getAsyncOperationJobRecords(names[0]) is None
    assert alice.manager.killAsyncOperation(names[0]).errorCode == clm.JOB_ID_NOT_FOUND
    assert bob.manager.getAsyncOperationJobRecords(f"{job}-foreign") is not None


def test_nothing_to_delete_is_a_success_and_too_much_is_an_error(alice: Clm) -> None:
    nothing = alice.manager.deleteAsyncOperationJobRecords([])
    assert (nothing.errorCode, nothing.items) == (0, ())
    many = alice.manager.deleteAsyncOperationJobRecords([f"j-{n}" for n in range(1000)])
    assert {item.errorCode for item in many.items} == {clm.JOB_ID_NOT_FOUND}
    with pytest.raises(clm.ClmError, match=r"job_ids: .*1000") as caught:
        alice.manager.deleteAsyncOperationJobRecords(["x"] * 1001)
    assert caught.value.code == -32602


async def test_one_lists_ones_own_jobs_and_an_admin_everybodys(
    alice: Clm, bob: Clm, admin: Clm, job: str
) -> None:
    alice.executor.report("succeeded", f"{job}-a", result=[1])
    alice.executor.report("started", f"{job}-b")
    bob.executor.report("started", f"{job}-c")
    for user, name in ((alice, "a"), (alice, "b"), (bob, "c")):
        await user.until(f"{job}-{name}")

    def listed(user: Clm, everybody: bool, running: bool = False) -> set[tuple[str, str]]:
        manager = user.manager
        asked = manager.listAllAsyncOperationJobRecords
        if running:
            asked = manager.listRunningAsyncOperationJobRecords
        status = asked(everybody)
        assert status.errorCode == clm.SUCCESS  # what others have left may be too much for a list
        return {(one.userName, one.jobId.removeprefix(f"{job}-")) for one in status.jobs}

    a, b, c = (alice.login.name, "a"), (alice.login.name, "b"), (bob.login.name, "c")
    assert listed(alice, everybody=False) == listed(alice, everybody=True) == {a, b}
    assert listed(alice, everybody=True, running=True) == {b}
    assert listed(bob, everybody=True) == {c}
    assert listed(admin, everybody=True) >= {a, b, c}
    assert not listed(admin, everybody=False) & {a, b, c}
    running = listed(admin, everybody=True, running=True)
    assert running >= {b, c}
    assert a not in running
    own = {one.jobId: one for one in alice.manager.listAllAsyncOperationJobRecords(False).jobs}
    for found in own.values():
        assert found == alice.manager.getAsyncOperationJobRecords(found.jobId)


async def test_a_list_that_is_too_long_is_cut_and_says_so(alice: Clm, job: str) -> None:
    names = [f"{job}-{n:02}" for n in range(40)]
    for name in names:
        alice.executor.report("succeeded", name, result="x" * 250_000)
    await alice.until(names[-1])

    def cut_short() -> clm.ClmJobStatus | None:
        found = alice.manager.listAllAsyncOperationJobRecords(include_all_user=False)
        return found if found.errorMessage else None

    status = await eventually(cut_short)
    assert status.errorCode == clm.SUCCESS
    assert status.errorMessage == f"only the newest {len(status.jobs)} are listed"
    assert len(status.jobs) == 33


async def test_persistent_id_status_by_job_and_by_group_page_by_page(alice: Clm, job: str) -> None:
    alice.executor.report("started", job, group=f"g-{job}")
    for n in range(5):
        alice.executor.report("recorded", job, target=f"d-{n}", code=n, message=f"m-{n}")
    alice.executor.report("recorded", f"{job}-other", target="d-9", code=9, group=f"g-{job}")
    alice.executor.report("recorded", job, target="odd", code=7, group="elsewhere")
    manager = alice.manager
    await eventually(lambda: manager.listPersistentIDStatus(job, FIRST).total == 6)
    await eventually(lambda: manager.listPersistentIDStatusByGroup(f"g-{job}", FIRST).total == 6)
    every = manager.listPersistentIDStatus(job, FIRST)
    ok(every)
    assert (every.offset, every.max) == (0, -1)
    first = every.items[0]
    assert (first.jobId, first.jobGroup, first.id) == (job, f"g-{job}", "d-0")
    assert (first.errorCode, first.errorMessage) == (0, "m-0")
    assert first.timestamp is not None
    assert [one.id for one in every.items] == ["d-0", "d-1", "d-2", "d-3", "d-4", "odd"]
    by_job = {
        page: [one.id for one in manager.listPersistentIDStatus(job, Pagination(*page)).items]
        for page in ((0, 2), (4, 2), (5, 10), (3, -1), (6, -1), (2_000_000, 5), (0, 0))
    }
    assert by_job == {
        (0, 2): ["d-0", "d-1"],
        (4, 2): ["d-4", "odd"],
        (5, 10): ["odd"],
        (3, -1): ["d-3", "d-4", "odd"],
        (6, -1): [],
        (2_000_000, 5): [],
        (0, 0): [],
    }
    group = manager.listPersistentIDStatusByGroup(f"g-{job}", Pagination(4, 5))
    ok(group)
    assert [(one.jobId, one.id) for one in group.items] == [(job, "d-4"), (f"{job}-other", "d-9")]
    assert group.total == 6
    assert manager.listPersistentIDStatusByGroup("nobody's", FIRST).items == ()


@pytest.mark.parametrize("page", [(-1, 5), (0, -2), (-1, -2)])
async def test_pages_that_are_none_are_an_operation_error(
    alice: Clm, job: str, page: tuple[int, int]
) -> None:
    alice.executor.report("recorded", job, target="t", code=0, group="g")
    await alice.until(job)
    for found in (
        alice.manager.listPersistentIDStatus(job, Pagination(*page)),
        alice.manager.listPersistentIDStatusByGroup("g", Pagination(*page)),
    ):
        assert (found.errorCode, found.items) == (clm.INVALID_PAGINATION, ())


async def test_a_persistent_id_status_is_added_through_the_one_door(alice: Clm, job: str) -> None:
    alice.executor.report("started", job, group="its-own")
    await alice.until(job)
    new = clm.PersistentIDStatus(job, "device-1", 5, "no answer")
    stored = alice.manager.addPersistentIDStatus(new)
    assert isinstance(stored, clm.PersistentIDStatus)
    assert (stored.jobId, stored.id, stored.errorCode) == (job, "device-1", 5)
    assert (stored.errorMessage, stored.jobGroup) == ("no answer", "its-own")
    assert stored.timestamp is not None
    other = clm.PersistentIDStatus(job, "device-1", jobGroup="another")
    stored_too = alice.manager.addPersistentIDStatus(other)
    assert isinstance(stored_too, clm.PersistentIDStatus)
    assert alice.manager.listPersistentIDStatus(job, FIRST).items == (stored, stored_too)
    assert alice.manager.listPersistentIDStatusByGroup("another", FIRST).items == (stored_too,)
    with pytest.raises(clm.ClmError, match=r"pidStatus.id: ") as caught:
        alice.manager.addPersistentIDStatus(clm.PersistentIDStatus(job, ""))
    assert caught.value.code == -32602
