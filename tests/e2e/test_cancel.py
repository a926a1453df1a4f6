"""A job is canceled, from the request to the executor's process, through the public doors."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from signal import SIGKILL

import pytest

from deploy.rabbitmq import RabbitMQNode
from deploy.stack import Stack, python_environment
from jobcast.client import Client
from jobcast.events import Progressed
from jobcast.job import Job, Status
from jobcast.problems import AlreadyEnded, CancelPending, JobGone, NotCancelable, NotEnded
from jobcast.reporter import Reporter
from tests.chaos.link import Link
from tests.eventually import eventually
from tests.logins import Login, Logins

ENVIRONMENT = python_environment()


@pytest.fixture
async def client(stack: Stack, subscriber: Login) -> AsyncIterator[Client]:
    async with Client(stack.urls[0], subscriber.token) as client:
        yield client


@pytest.fixture
async def reporter(
    stack: Stack, rabbitmq: RabbitMQNode, logins: Logins, subscriber: Login
) -> AsyncIterator[Reporter]:
    """With an executor's own login, as everybody has it."""
    url = rabbitmq.url_of(logins.executor.name, logins.executor.token)
    async with Reporter(url, owner=subscriber.name) as reporter:
        yield reporter


@asynccontextmanager
async def jobcast(*args: str, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jobcast.cli", *args),
        env=ENVIRONMENT | env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, SIGKILL)
        await process.communicate()


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    return process.returncode or 0, out.decode()


class Terminal:
    """The owner's shell, and an executor's."""

    def __init__(self, stack: Stack, rabbitmq: RabbitMQNode, logins: Logins, owner: Login) -> None:
        self.owner = owner
        self._amqp_url = rabbitmq.url_of(logins.executor.name, logins.executor.token)
        self._url = stack.urls[1]

    async def say(self, *args: str) -> tuple[int, str]:
        env = {"JOBCAST_URL": self._url, "JOBCAST_TOKEN": self.owner.token}
        async with jobcast(*args, **env) as process:
            return await ended(process)

    @asynccontextmanager
    async def running(
        self, job_id: str, script: str, *options: str
    ) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
        """`jobcast run` of a shell script that prints its process id."""
        head = ("run", "--owner", self.owner.name, "--id", job_id, *options)
        args = (*head, "--", "sh", "-c", script)
        async with jobcast(*args, JOBCAST_AMQP_URL=self._amqp_url) as process:
            assert process.stdout is not None
            pid = 0
            while not pid:
                line = (await asyncio.wait_for(process.stdout.readline(), 20)).strip()
                pid = int(line) if line.isdigit() else 0
            yield process, pid


@pytest.fixture
def terminal(stack: Stack, rabbitmq: RabbitMQNode, logins: Logins, subscriber: Login) -> Terminal:
    return Terminal(stack, rabbitmq, logins, subscriber)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def running(client: Client, job_id: str) -> bool:
    return (await client.get(job_id)).status is Status.RUNNING


async def test_one_process_cancels_what_another_runs(terminal: Terminal, client: Client) -> None:
    async with terminal.running("sleeper", "echo $$; exec sleep 60") as (process, pid):
        await eventually(lambda: running(client, "sleeper"))
        code, said = await terminal.say("cancel", "sleeper", "--wait", "--timeout", "15")
        assert (code, said.split()[2]) == (4, "canceled")
        assert (await ended(process))[0] == 128 + 15
        await eventually(lambda: not lives(pid))
    job = await client.get("sleeper")
    assert (job.status, bytes(job.result)) == (Status.CANCELED, b'{"exit_code":143}')
    assert (await terminal.say("cancel", "sleeper"))[0] == 7
    assert (await terminal.say("cancel", "sleeper", "--wait"))[0] == 4
    assert (await terminal.say("cancel", "nobody"))[0] == 6


async def test_what_ignores_the_signal_is_killed_after_the_grace(
    terminal: Terminal, client: Client
) -> None:
    script = "trap '' TERM; echo $$; while :; do sleep 0.1; done"
    async with terminal.running("stubborn", script, "--grace", "0.5") as (process, pid):
        await eventually(lambda: running(client, "stubborn"))
        assert (await terminal.say("cancel", "stubborn", "--wait", "--timeout", "15"))[0] == 4
        assert (await ended(process))[0] == 128 + 9
        await eventually(lambda: not lives(pid))
    assert bytes((await client.get("stubborn")).result) == b'{"exit_code":137}'


async def test_what_the_command_has_started_ends_with_it(
    terminal: Terminal, client: Client
) -> None:
    # The shell ends at once, what it has started does not want to.
    script = "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.1; done' & wait"
    async with terminal.running("parent", script, "--grace", "0.5") as (process, child):
        await eventually(lambda: running(client, "parent"))
        assert (await terminal.say("cancel", "parent", "--wait", "--timeout", "15"))[0] == 4
        await ended(process)
        await eventually(lambda: not lives(child))


async def test_a_command_that_finishes_in_spite_of_the_signal_has_succeeded(
    terminal: Terminal, client: Client
) -> None:
    script = "trap 'echo finished; exit 0' TERM; echo $$; while :; do sleep 0.1; done"
    async with terminal.running("willing", script) as (process, _):
        await eventually(lambda: running(client, "willing"))
        assert (await terminal.say("cancel", "willing", "--wait", "--timeout", "15"))[0] == 0
        assert (await ended(process))[0] == 0
    assert (await client.get("willing")).status is Status.SUCCEEDED


async def test_a_job_canceled_while_it_is_queued_learns_so_when_it_is_started(
    reporter: Reporter, client: Client
) -> None:
    await reporter.queued("waiting", operation="backup.full")
    await eventually(lambda: client.get("waiting"))
    assert (await client.cancel("waiting")).status is Status.CANCEL_PENDING
    with pytest.raises(CancelPending):
        await client.cancel("waiting")
    async with reporter.job("waiting", operation="backup.full"):
        await asyncio.wait_for(asyncio.get_running_loop().create_future(), 10)
    job = await client.wait("waiting", 10)
    assert (job.status, job.status_code) == (Status.CANCELED, 499)
    with pytest.raises(AlreadyEnded):
        await client.cancel("waiting")


async def test_a_job_canceled_while_its_executor_is_away_learns_so_when_it_is_back(
    rabbitmq: RabbitMQNode, logins: Logins, subscriber: Login, client: Client
) -> None:
    async with Link("amqp", rabbitmq.port) as link:
        url = rabbitmq.url_at(link.port, logins.executor.name, logins.executor.token)
        async with Reporter(url, owner=subscriber.name) as reporter, reporter.job("away") as job:
            await job.progress(40, targets={"vol1": 40}, message="copying")
            before = await eventually(lambda: at_percent(client, "away", 40))
            link.refusing = True
            link.cut()
            await client.cancel("away")
            link.heal()
            await asyncio.wait_for(asyncio.get_running_loop().create_future(), 20)
    end = await client.wait("away", 10)
    assert (end.status, end.percent, end.targets) == (Status.CANCELED, 40, before.targets)
    assert (end.version, end.attempt) == (before.version + 2, 1)  # cancel-pending, canceled


async def test_a_job_without_grace_ends_by_itself(reporter: Reporter, client: Client) -> None:
    async with reporter.job("firm", grace_s=None) as job:
        await eventually(lambda: client.get("firm"))
        await client.cancel("firm")
        await asyncio.wait_for(job.cancel_requested.wait(), 10)
    assert (await client.wait("firm", 10)).status is Status.SUCCEEDED


async def test_a_job_that_cannot_be_canceled_says_so(reporter: Reporter, client: Client) -> None:
    async with reporter.job("fixed", cancelable=False):
        await eventually(lambda: client.get("fixed"))
        with pytest.raises(NotCancelable):
            await client.cancel("fixed")


async def test_an_admin_acts_for_another_owner(
    stack: Stack, logins: Logins, reporter: Reporter, subscriber: Login
) -> None:
    async with Client(stack.urls[0], logins.admin.token) as admin:
        async with reporter.job("theirs", grace_s=60) as job:
            await job.record("vol1", 3, "slow")
            await eventually(lambda: admin.records("theirs", owner=subscriber.name))
            await admin.cancel("theirs", owner=subscriber.name)
            await asyncio.wait_for(job.cancel_requested.wait(), 10)
        assert (await admin.wait("theirs", 10, owner=subscriber.name)).status is Status.SUCCEEDED


async def test_a_job_is_commented_recorded_and_deleted(
    reporter: Reporter, client: Client, terminal: Terminal
) -> None:
    async with reporter.job("kept", group="nightly") as job:
        await job.record("vol1", 7, "slow disk")
        await eventually(lambda: client.get("kept"))
        with pytest.raises(NotEnded):
            await client.delete("kept")
        assert (await terminal.say("delete", "kept"))[0] == 7
    await client.wait("kept", 10)
    assert await terminal.say("comment", "kept", "look into it") == (0, "")
    assert (await client.get("kept")).comment == "look into it"
    assert (await client.comment("kept", None)).comment is None
    await client.record("kept", "vol2", 0, "added by hand")
    found = await client.records("kept", offset=1, max=1)
    assert ([record.target for record in found.records], found.total) == (["vol2"], 2)
    code, by_group = await terminal.say("records", "--group", "nightly", "--json")
    assert (code, len(by_group.splitlines())) == (0, 2)
    code, table = await terminal.say("records", "kept")
    assert (code, "slow disk" in table, "added by hand" in table) == (0, True, True)
    assert await terminal.say("delete", "kept") == (0, "")
    with pytest.raises(JobGone) as gone:
        await client.get("kept")
    assert gone.value.deleted


async def test_the_next_attempt_starts_over_and_the_first_says_no_more(
    reporter: Reporter, client: Client
) -> None:
    async with reporter.job("again", operation="backup", name="Nightly", group="g") as job:
        await job.progress(60, targets={"vol1": 60}, message="copying")
        first = await eventually(lambda: at_percent(client, "again", 60))
        await job.next_attempt("the disk came back")
        second = await eventually(lambda: at_percent(client, "again", None))
        late = reporter.event(Progressed, "again", attempt=1, sequence=99, percent=99)
        await reporter.deliver(late, operation="backup")
        await job.progress(10)
        await eventually(lambda: at_percent(client, "again", 10))
    end = await client.wait("again", 10)
    assert (second.attempt, second.targets, second.message) == (2, {}, "the disk came back")
    assert (end.attempt, end.status) == (2, Status.SUCCEEDED)
    for job_then in (second, end):
        kept = ("id", "owner", "operation", "name", "group", "created_at", "started_at")
        assert [getattr(job_then, name) for name in kept] == [getattr(first, n) for n in kept]


async def at_percent(client: Client, job_id: str, percent: float | None) -> Job | None:
    job = await client.get(job_id)
    assert job.percent != 99
    return job if job.percent == percent else None
