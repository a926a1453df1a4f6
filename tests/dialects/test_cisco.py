"""Cisco License Manager's functions, by a client of them, on the running service."""

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import aio_pika
import httpx
import pytest

from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Layout, Stack
from examples import clm_client as clm
from examples.clm_client import LicenseManager, Pagination
from jobcast.sse import EventStream
from tests.chaos.link import Link
from tests.dialects.clm import Clm, Executor
from tests.eventually import eventually
from tests.logins import Login, Logins

UNKNOWN = "unknown-job"
FIRST = Pagination(0, -1)


@pytest.fixture
def job() -> str:
    return f"job-{uuid.uuid4().hex[:8]}"


@contextmanager
def logged_in(stack: Stack, logins: Logins, login: Login) -> Iterator[Clm]:
    executor = Executor(stack.urls[0], logins.executor, login.name)
    with LicenseManager(stack.urls[0], login.name, login.token) as manager, closing(executor):
        yield Clm(manager, executor, login)


@pytest.fixture
def alice(session_stack: Stack, logins: Logins, subscriber: Login) -> Iterator[Clm]:
    """A fresh subscriber at the first replica."""
    with logged_in(session_stack, logins, subscriber) as user:
        yield user


@pytest.fixture
def bob(session_stack: Stack, logins: Logins) -> Iterator[Clm]:
    with logged_in(session_stack, logins, logins.fresh_subscriber()) as user:
        yield user


@pytest.fixture
def admin(session_stack: Stack, logins: Logins) -> Iterator[Clm]:
    with logged_in(session_stack, logins, logins.admin) as user:
        yield user


def ok(status: clm.Status) -> None:
    assert (status.errorCode, status.errorName, status.errorMessage) == (0, "SUCCESS", "")


def test_a_login_gives_a_token_for_half_a_day_at_every_replica(
    session_stack: Stack, alice: Clm
) -> None:
    token = alice.manager.token
    assert token is not None
    assert (token.username, token.sslEnabled) == (alice.login.name, False)
    assert 12 * 3600 - 60 < token.timeout <= 12 * 3600
    assert alice.login.token not in token.token
    with closing(LicenseManager(session_stack.urls[1], "", "")) as other:
        other.token = token
        ok(other.listAllAsyncOperationJobRecords(include_all_user=False))


@pytest.mark.parametrize("wrong", ["name", "password", "another's", "token again", "executor"])
def test_a_login_that_is_none_is_refused(
    session_stack: Stack, logins: Logins, alice: Clm, wrong: str
) -> None:
    token = alice.manager.token
    assert token is not None
    name, password = {
        "name": ("somebody", alice.login.token),
        "password": (alice.login.name, "wrong"),
        "another's": (alice.login.name, logins.bob.token),
        "token again": (alice.login.name, token.token),
        "executor": logins.executor,
    }[wrong]
    with pytest.raises(clm.AuthenticationException):
        alice.manager.login(name, password)


async def test_a_job_is_followed_to_its_success(alice: Clm, job: str) -> None:
    alice.executor.report("queued", job, operation="deploy", group="g-1")
    queued = await alice.until(job)
    assert (queued.state, queued.startTime, queued.completeTime) == ("running", None, None)
    assert alice.manager.getAsyncOperationStatus(job).overallPercentage == 0
    alice.executor.report("started", job)
    alice.executor.report("progressed", job, targets={"d-1": 100, "d-2": 49.9})

    def halfway() -> clm.ProgressStatus | None:
        found = alice.manager.getAsyncOperationStatus(job)
        return found if found.targetIds else None

    progress = await eventually(halfway)
    ok(progress)
    assert progress.jobId == job
    assert progress.overallPercentage == 74
    assert dict(zip(progress.targetIds, progress.targetProgress, strict=True)) == {
        "d-1": 100,
        "d-2": 49,
    }
    alice.executor.report("succeeded", job, result={"licenses": [1, 2]})
    record = await alice.until(job, state="complete")
    assert (record.jobId, record.userName, record.operation) == (job, alice.login.name, "deploy")
    assert (record.jobGroup, record.comment) == ("g-1", None)
    assert (record.errorCode, record.errorMessage) == (0, "")
    assert record.result == {"licenses": [1, 2]}
    assert record.startTime is not None
    assert record.completeTime is not None
    assert record.submitTime <= record.startTime <= record.completeTime


@pytest.mark.parametrize("end", ["succeeded", "failed", "canceled"])
async def test_the_progress_of_an_ended_job_is_that_of_an_unknown_one(
    alice: Clm, job: str, end: str
) -> None:
    alice.executor.report("started", job)
    await alice.until(job)
    ok(alice.manager.getAsyncOperationStatus(job))
    alice.executor.report(end, job)
    await eventually(lambda: alice.manager.getAsyncOperationStatus(job).errorCode != 0)
    found = vars(alice.manager.getAsyncOperationStatus(job))
    assert found | {"jobId": UNKNOWN} == vars(alice.manager.getAsyncOperationStatus(UNKNOWN))
    assert (found["errorCode"], found["errorName"]) == (clm.JOB_ID_NOT_FOUND, "JOB_ID_NOT_FOUND")
    assert (await alice.until(job)).state == ("complete" if end == "succeeded" else "incomplete")


async def test_a_failed_job_is_incomplete_and_tells_why(alice: Clm, job: str) -> None:
    error = {"code": "no-space", "message": "the disk is full"}
    alice.executor.report("failed", job, error=error, status_code=507)
    record = await alice.until(job, state="incomplete")
    assert (record.errorCode, record.errorMessage) == (507, "the disk is full")


async def test_a_killed_job_is_incomplete_once_its_executor_has_ended_it(
    session_stack: Stack, alice: Clm, job: str
) -> None:
    alice.executor.report("started", job)
    await alice.until(job)
    ok(alice.manager.killAsyncOperation(job))
    async with httpx.AsyncClient(headers=alice.login.headers) as client:
        native = await client.get(f"{session_stack.urls[1]}/v1/jobs/{job}")
    assert native.json()["status"] == "cancel-pending"  # at once, at every replica
    ok(alice.manager.killAsyncOperation(job))  # it is being killed already
    ok(alice.manager.getAsyncOperationStatus(job))
    alice.executor.report("canceled", job, message="stopped")
    record = await alice.until(job, state="incomplete")
    assert (record.errorCode, record.errorMessage) == (499, "stopped")
    assert alice.manager.killAsyncOperation(job).errorCode == clm.JOB_ALREADY_COMPLETE


async def test_what_cannot_be_killed_says_so(alice: Clm, job: str) -> None:
    alice.executor.report("started", job, cancelable=False)
    await alice.until(job)
    assert alice.manager.killAsyncOperation(job).errorCode == clm.KILL_NOT_SUPPORTED
    assert (await alice.until(job)).state == "running"


def asked_of(manager: LicenseManager, job: str) -> dict[str, Any]:
    """What every function that names a job answers, without the name."""
    added = clm.PersistentIDStatus(job, "t")
    found = {
        "record": manager.getAsyncOperationJobRecords(job),
        "progress": manager.getAsyncOperationStatus(job),
        "kill": manager.killAsyncOperation(job),
        "comment": manager.setAsyncOperationJobComment(job, "mine"),
        "delete": manager.deleteAsyncOperationJobRecords([job]),
        "records": manager.listPersistentIDStatus(job, FIRST),
        "add": manager.addPersistentIDStatus(added),
    }
    return {name: repr(said).replace(job, "-") for name, said in found.items()}


async def test_a_foreign_job_is_an_unknown_one_for_admins_as_well(
    alice: Clm, bob: Clm, admin: Clm, job: str
) -> None:
    alice.executor.report("recorded", job, target="t", code=0)
    alice.executor.report("succeeded", job)
    before = await alice.until(job, state="complete")
    for stranger in (bob, admin):
        foreign = asked_of(stranger.manager, job)
        assert foreign == asked_of(stranger.manager, UNKNOWN)
        assert foreign.pop("record") == "None"
        assert all("JOB_ID_NOT_FOUND" in said for said in foreign.values()), foreign
    assert alice.manager.getAsyncOperationJobRecords(job) == before
    assert alice.manager.listPersistentIDStatus(job, FIRST).total == 1


async def test_a_comment_can_be_read_at_once_also_after_the_end(alice: Clm, job: str) -> None:
    alice.executor.report("started", job)
    await alice.until(job)
    ok(alice.manager.setAsyncOperationJobComment(job, "ünter way"))
    found = alice.manager.getAsyncOperationJobRecords(job)
    assert found is not None
    assert found.comment == "ünter way"
    alice.executor.report("succeeded", job)
    await alice.until(job, state="complete")
    ok(alice.manager.setAsyncOperationJobComment(job, ""))
    await alice.until(job, comment="")
    with pytest.raises(clm.ClmError, match="comment: ") as caught:
        alice.manager.setAsyncOperationJobComment(job, "x" * 1025)
    assert caught.value.code == -32602


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
        ok(status)
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


async def test_a_batch_is_carried_out_in_its_order(alice: Clm, job: str) -> None:
    alice.executor.report("started", job)
    await alice.until(job)
    named = {"job_id": job}
    before, set_, after, killed, unknown, missing = alice.manager.batch(
        ("getAsyncOperationJobRecords", named),
        ("setAsyncOperationJobComment", {**named, "comment": "seen"}),
        ("getAsyncOperationJobRecords", named),
        ("killAsyncOperation", {"job_id": UNKNOWN}),
        ("noSuchFunction", {}),
        ("killAsyncOperation", {}),
    )
    assert (before["comment"], set_["errorCode"], after["comment"]) == (None, 0, "seen")
    assert killed["errorCode"] == clm.JOB_ID_NOT_FOUND
    assert (unknown.code, missing.code) == (-32601, -32602)


async def test_the_notice_is_there_when_the_progress_entry_has_gone(
    session_stack: Stack, rabbitmq: RabbitMQNode, alice: Clm, job: str
) -> None:
    """Whoever finds the entry gone has been told, or is being told, how the job has ended."""
    heard: list[str] = []
    listening = asyncio.Event()

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        heard.append(f"AMQP {message.headers['event']!s} {message.correlation_id}")

    async def read(url: str) -> None:
        parser = EventStream()
        async with (
            httpx.AsyncClient(base_url=url, headers=alice.login.headers, timeout=30) as client,
            client.stream("GET", f"/v1/jobs/{job}/events") as response,
        ):
            async for chunk in response.aiter_bytes():
                for event in parser.feed(chunk):
                    heard.append(f"SSE {event.event} {job}")
                    if event.event == "snapshot":
                        listening.set()

    alice.executor.report("started", job)
    await alice.until(job)
    name, token = alice.login
    async with (
        await aio_pika.connect(rabbitmq.url_of(name, token)) as connection,
        asyncio.TaskGroup() as tasks,
    ):
        channel = await connection.channel()
        queue = await channel.declare_queue(f"sub.{name}.clm.test", exclusive=True)
        await queue.bind("job.events", f"{name}.*.succeeded.*")
        await queue.consume(take, no_ack=True)
        tasks.create_task(read(session_stack.urls[0]))
        await listening.wait()
        ask = alice.manager.getAsyncOperationStatus
        assert (await asyncio.to_thread(ask, job)).errorCode == 0
        assert "SSE succeeded" not in str(heard)
        alice.executor.report("succeeded", job)
        while (await asyncio.to_thread(ask, job)).errorCode == 0:
            pass
        wanted = {f"SSE succeeded {job}", f"AMQP succeeded {job}"}
        await eventually(lambda: wanted <= set(heard), 2)


Own = Callable[..., Any]


@pytest.fixture
def own_api(
    session_stack: Stack,
    rabbitmq: RabbitMQNode,
    redis_server: RedisNode,
    logins: Logins,
    tmp_path_factory: pytest.TempPathFactory,
) -> Own:
    """`with own_api(JOBCAST_…="…") as url`: a replica with settings of the test's own."""

    @contextmanager
    def start(**env: str) -> Iterator[str]:
        layout = Layout(
            amqp_url=env.pop("JOBCAST_AMQP_URL", rabbitmq.url),
            redis_url=redis_server.url,
            redis_reader_url=env.pop("JOBCAST_REDIS_URL", redis_server.reader_url),
            users_file=logins.users_file,
            folder=tmp_path_factory.mktemp("log"),
            notifiers=0,
            env=env,
        )
        with Stack(layout) as stack:
            yield stack.urls[0]

    return start


async def test_where_so_set_the_progress_of_an_ended_job_is_all_of_it(
    alice: Clm, own_api: Own, job: str
) -> None:
    alice.executor.report("progressed", job, percent=30, targets={"d-1": 30})
    alice.executor.report("failed", job)
    await alice.until(job, state="incomplete")
    with (
        own_api(JOBCAST_CISCO_FINISHED="complete") as url,
        LicenseManager(url, alice.login.name, alice.login.token) as manager,
    ):
        found = manager.getAsyncOperationStatus(job)
        ok(found)
        assert (found.overallPercentage, found.targetIds) == (100, ("d-1",))
        assert manager.getAsyncOperationStatus(UNKNOWN).errorCode == clm.JOB_ID_NOT_FOUND


async def test_while_a_part_is_away_the_caller_is_told_to_come_again(
    alice: Clm, own_api: Own, rabbitmq: RabbitMQNode, redis_server: RedisNode, job: str
) -> None:
    names = [f"{job}-{n}" for n in range(3)]
    alice.executor.report("succeeded", *names)
    for name in names:
        await alice.until(name, state="complete")
    async with Link("amqp", rabbitmq.port) as amqp, Link("redis", redis_server.port) as store:
        env = {
            "JOBCAST_AMQP_URL": rabbitmq.url_at(amqp.port),
            "JOBCAST_REDIS_URL": redis_server.reader_url_at(store.port),
        }
        opened = own_api(**env)
        url = await asyncio.to_thread(opened.__enter__)
        try:
            with closing(LicenseManager(url, "", "")) as manager:
                manager.token = alice.manager.token
                for link in (amqp, store):
                    link.refusing = True
                    link.cut()
                    for function, given in (
                        (manager.setAsyncOperationJobComment, (names[0], "lost")),
                        (manager.deleteAsyncOperationJobRecords, ([UNKNOWN, *names],)),
                        (manager.getAsyncOperationJobRecords, (names[0],)),
                    ):
                        told = await asyncio.to_thread(_told, function, *given)
                        assert told == _wanted(link is store, function.__name__), given
        finally:
            await asyncio.to_thread(opened.__exit__, None, None, None)
    assert {found.comment for found in [await alice.until(name) for name in names]} == {None}


def _told(function: Callable[..., Any], *given: Any) -> str:
    """What the caller is told, in one word; of a deletion the words of its items."""
    try:
        result = function(*given)
    except clm.RemoteException as error:
        return f"{type(error).__name__} {error.code}"
    items = getattr(result, "items", ())
    return " ".join(item.errorName for item in items) or type(result).__name__


def _wanted(no_redis: bool, function: str) -> str:
    if not no_redis and function.startswith("delete"):
        return "JOB_ID_NOT_FOUND INTERNAL INTERNAL INTERNAL"
    if not no_redis and function.startswith("get"):
        return "ClmJob"
    return "RemoteException -32000"
