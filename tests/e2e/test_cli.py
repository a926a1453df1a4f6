"""The command line as a stranger starts it: real commands, a real broker, a scripted service."""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import aio_pika
import msgspec
import pytest

from deploy.rabbitmq import RabbitMQNode
from jobcast.events import Canceled, Event, Failed, Heartbeat, Progressed, Started, Succeeded
from jobcast.job import Status
from jobcast.malformed import Malformed
from jobcast.names import LIFECYCLE
from jobcast.wire import decode
from tests.eventually import eventually
from tests.scripted_api import event, job, opening, problem, reply, scripted_api, stream

NOWHERE = "amqp://user:sesame@127.0.0.1:1/"


class Ended(msgspec.Struct):
    code: int
    out: str
    err: str


class Told:
    """What arrives at the broker, read from a queue of this test's own."""

    def __init__(self, queue: aio_pika.abc.AbstractQueue, owner: str, url: str) -> None:
        self._queue = queue
        self.owner = owner
        self.url = url
        self.seen: list[Event] = []

    async def events(self) -> list[Event]:
        while message := await self._queue.get(no_ack=True, fail=False):
            for said in decode(message.body, message.content_type, message.headers, trusted=False):
                assert not isinstance(said, Malformed)
                self.seen.append(said)
        return [event for event in self.seen if event.owner == self.owner]

    async def end(self) -> Event:
        return (await self.events())[-1]


@pytest.fixture
async def told(rabbitmq: RabbitMQNode, owner: str) -> AsyncIterator[Told]:
    async with await aio_pika.connect(rabbitmq.url) as connection, connection.channel() as channel:
        exchange = await channel.declare_exchange(LIFECYCLE, "fanout", durable=True)
        queue = await channel.declare_queue(f"cli-{uuid4()}", exclusive=True)
        await queue.bind(exchange)
        yield Told(queue, owner, rabbitmq.url)


@asynccontextmanager
async def started(
    *args: str, env: dict[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "jobcast.cli",
        *args,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def jobcast(*args: str, env: dict[str, str] | None = None) -> Ended:
    async with started(*args, env=env) as process:
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def run(told: Told, command: Sequence[str], *options: str) -> Ended:
    env = {"JOBCAST_AMQP_URL": told.url}
    return await jobcast("run", "--owner", told.owner, *options, "--", *command, env=env)


async def test_a_command_that_succeeds_is_a_job_with_progress_that_succeeds(told: Told) -> None:
    script = "for p in 10 50 90; do printf '\\r%s%%' $p; sleep 0.25; done; echo; echo all done >&2"
    options = ("--operation", "build", "--id", "j-1", "--group", "nightly", "--label", "team=x")
    ended = await run(told, ["sh", "-c", script], *options)
    assert (ended.code, ended.out) == (0, "\r10%\r50%\r90%\n")
    assert ended.err == "jobcast: job j-1\nall done\n"
    start, *between, end = await told.events()
    assert isinstance(start, Started)
    assert (start.job_id, start.operation, start.group) == ("j-1", "build", "nightly")
    assert (start.name, start.labels) == ("sh", {"team": "x"})
    seen = [event.percent for event in between if isinstance(event, Progressed)]
    assert seen[:3] == [10, 50, 90]
    assert isinstance(end, Succeeded)
    assert (end.status_code, end.message, bytes(end.result)) == (
        200,
        "all done",
        b'{"exit_code":0}',
    )


async def test_a_command_that_fails_fails_its_job_with_its_code_and_last_words(told: Told) -> None:
    ended = await run(told, ["sh", "-c", "echo 60%; echo no space left; exit 7"])
    assert (ended.code, ended.out) == (7, "60%\nno space left\n")
    *_, progress, end = await told.events()
    assert isinstance(progress, Progressed)
    assert progress.percent == 60
    assert isinstance(end, Failed)
    assert end.error is not None
    assert (end.reason_code, end.error.code, end.message) == (7, "exit", "no space left")


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [("no-such-command-here", 127, "command not found"), ("/etc/passwd", 126, "Permission denied")],
)
async def test_a_command_that_cannot_be_started_fails_its_job(
    told: Told, command: str, code: int, words: str
) -> None:
    ended = await run(told, [command])
    assert (ended.code, ended.out) == (code, "")
    assert words in ended.err
    end = await told.end()
    assert isinstance(end, Failed)
    assert end.reason_code == code


async def test_a_command_that_is_killed_from_outside_fails_its_job(told: Told) -> None:
    ended = await run(told, ["sh", "-c", "kill -KILL $$"])
    assert ended.code == 128 + signal.SIGKILL
    end = await told.end()
    assert isinstance(end, Failed)
    assert end.error is not None
    assert (end.error.code, end.error.message) == ("signal", "killed by SIGKILL")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_goes_on_to_the_whole_command_and_cancels_its_job(
    told: Told, number: signal.Signals
) -> None:
    script = "trap 'echo stopping; exit 3' INT TERM; echo ready; while :; do sleep 0.05; done"
    args = ("run", "--owner", told.owner, "--", "sh", "-c", script)
    async with started(*args, env={"JOBCAST_AMQP_URL": told.url}) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        out, _ = await process.communicate()
    assert (process.returncode, out) == (3, b"stopping\n")
    end = await told.end()
    assert isinstance(end, Canceled)
    assert (end.message, bytes(end.result)) == ("stopping", b'{"exit_code":3}')


async def test_output_is_passed_through_unchanged(told: Told) -> None:
    script = "import os; os.write(1, bytes(range(256)) * 4096); os.write(2, b'\\xff\\r\\x00')"
    args = ("run", "--owner", told.owner, "--", sys.executable, "-c", script)
    async with started(*args, env={"JOBCAST_AMQP_URL": told.url}) as process:
        out, err = await process.communicate()
    assert out == bytes(range(256)) * 4096
    assert err.endswith(b"\xff\r\x00")


async def test_a_reader_that_goes_away_ends_the_command_as_in_any_pipe(told: Told) -> None:
    line = f"{shlex.quote(sys.executable)} -m jobcast.cli run --owner {told.owner} -- yes | head -1"
    env = {**os.environ, "JOBCAST_AMQP_URL": told.url}
    process = await asyncio.create_subprocess_shell(
        line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env
    )
    out, _ = await process.communicate()
    assert out == b"y\n"
    end = await told.end()
    assert isinstance(end, Failed)
    assert end.error is not None
    assert end.error.message == "killed by SIGPIPE"


async def test_a_lease_is_kept_up_while_the_command_is_silent(told: Told) -> None:
    ended = await run(told, ["sleep", "1"], "--lease", "0.6")
    assert ended.code == 0
    events = await told.events()
    assert [e.lease_s for e in events if isinstance(e, Started)] == [0.6]
    assert sum(isinstance(event, Heartbeat) for event in events) >= 2


async def test_without_a_broker_the_command_runs_and_a_warning_says_what_is_unknown() -> None:
    env = {"JOBCAST_AMQP_URL": NOWHERE}
    command = ("sh", "-c", "echo hi; exit 5")
    ended = await jobcast("run", "--owner", "a", "--flush", "0.3", "--", *command, env=env)
    assert (ended.code, ended.out) == (5, "hi\n")
    assert "could not be delivered" in ended.err
    assert "sesame" not in ended.err
    assert "Traceback" not in ended.err


async def test_one_event_is_reported_over_amqp(told: Told) -> None:
    env = {"JOBCAST_AMQP_URL": told.url}
    args = ("progressed", "j-2", "--owner", told.owner, "--percent", "40", "--data")
    ended = await jobcast("report", *args, '{"targets": {"vol1": 80}}', env=env)
    assert (ended.code, ended.err) == (0, "")
    (event,) = await told.events()
    assert isinstance(event, Progressed)
    assert (event.job_id, event.percent, event.targets) == ("j-2", 40, {"vol1": 80})


async def test_one_event_is_reported_over_http() -> None:
    async with scripted_api(reply(202, {"accepted": 1})) as api:
        env = {"JOBCAST_URL": api.url, "JOBCAST_TOKEN": "sesame"}
        args = (
            "job.succeeded",
            "j-2",
            "--owner",
            "alice",
            "--http",
            "--data",
            '{"result": [1, null]}',
        )
        assert await jobcast("report", *args, env=env) == Ended(0, "", "")
        request = api.requests[0]
    (event,) = decode(request.body, request.headers["content-type"], {}, trusted=False)
    assert isinstance(event, Succeeded)
    assert bytes(event.result) == b"[1,null]"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("explode", "j", "--owner", "a"), "succeeded"),
        (("progressed", "j", "--owner", "a", "--percent", "101"), "percent"),
        (("progressed", "j", "--owner", "a", "--data", '{"percentage": 1}'), "percentage"),
        (("progressed", "j", "--owner", "a", "--data", "{"), "job.progressed"),
        (("progressed", "j j", "--owner", "a"), "subject"),
        (("recorded", "j", "--owner", "a", "--message", "m"), "target"),
    ],
)
async def test_an_event_that_is_none_is_refused_in_one_line(
    args: tuple[str, ...], words: str
) -> None:
    ended = await jobcast("report", *args)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("jobcast: ")
    assert ended.err.count("\n") == 1
    assert words in ended.err


@pytest.mark.parametrize(
    ("status", "code"), [(Status.SUCCEEDED, 0), (Status.FAILED, 3), (Status.CANCELED, 4)]
)
async def test_the_exit_code_of_wait_and_watch_tells_the_end(status: Status, code: int) -> None:
    end = job(3, status, percent=40, message="last\nwords")
    async with scripted_api(reply(200, end)) as api:
        waited = await jobcast("wait", "j1", env={"JOBCAST_URL": api.url})
    line = f"2026-11-21T10:00:00.000Z j1 {status.value} 40% last words\n"
    assert waited == Ended(code, line, "")
    blocks = opening("fresh"), event("snapshot", job(1), "1-0"), event(status.value, end, "2-0")
    async with scripted_api(stream(*blocks)) as api:
        watched = await jobcast("watch", "j1", env={"JOBCAST_URL": api.url})
    assert watched.code == code
    assert watched.out == f"2026-11-21T10:00:00.000Z j1 running\n{line}"


async def test_changes_are_watched_as_json_lines() -> None:
    end = job(3, Status.SUCCEEDED, result=msgspec.Raw(b'{"a":1}'))
    async with scripted_api(stream(event("snapshot", end, "2-0"))) as api:
        watched = await jobcast("watch", "j1", "--json", env={"JOBCAST_URL": api.url})
    (line,) = watched.out.splitlines()
    found = msgspec.json.decode(line)
    assert (found["event"], found["cursor"], found["job"]["result"]) == (
        "snapshot",
        "2-0",
        {"a": 1},
    )


async def test_waiting_says_when_time_is_up_and_when_there_is_no_such_job() -> None:
    async with scripted_api(reply(200, job(1))) as api:
        late = await jobcast("wait", "j1", "--timeout", "0.2", env={"JOBCAST_URL": api.url})
    assert late == Ended(5, "", "jobcast: job j1 has not ended within 0.2 s\n")
    async with scripted_api(problem(410, "job-expired")) as api:
        gone = await jobcast("wait", "j1", env={"JOBCAST_URL": api.url})
    assert (gone.code, gone.err) == (6, "jobcast: job-expired\n")


async def test_jobs_are_listed_as_a_table_and_as_json() -> None:
    jobs = [job(1, name="[bold]", percent=40.5), job(2, Status.FAILED, id="j2")]
    async with scripted_api(reply(200, {"jobs": jobs, "next": "more"})) as api:
        env = {"JOBCAST_URL": api.url, "COLUMNS": "120"}
        table = await jobcast("list", "--limit", "2", "--status", "running", env=env)
        lines = await jobcast("list", "--limit", "2", "--json", env=env)
        assert api.requests[0].query == [("status", "running"), ("limit", "2")]
    assert table.code == 0
    assert "[bold]" in table.out
    assert "40.5" in table.out
    assert [msgspec.json.decode(line)["id"] for line in lines.out.splitlines()] == ["j1", "j2"]


@pytest.mark.parametrize(
    ("env", "code"),
    [
        ({"JOBCAST_URL": "http://127.0.0.1:1"}, 1),
        ({"JOBCAST_URL": "ftp://x"}, 2),
    ],
)
async def test_trouble_is_one_line(env: dict[str, str], code: int) -> None:
    ended = await jobcast("list", env=env | {"JOBCAST_TOKEN": "sesame"})
    assert (ended.code, ended.out, ended.err.count("\n")) == (code, "", 1)
    assert "sesame" not in ended.err


async def test_a_watcher_survives_an_interruption(told: Told) -> None:
    blocks = opening("fresh"), event("snapshot", job(1), "1-0")
    end = event("succeeded", job(2, Status.SUCCEEDED), "2-0")
    async with scripted_api(stream("retry: 10", *blocks, cut=True), stream(end)) as api:
        watched = await jobcast("watch", "j1", env={"JOBCAST_URL": api.url})
        await eventually(lambda: len(api.requests) == 2)
    assert watched.code == 0
    assert len(watched.out.splitlines()) == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("retry",), "either ids or --all"),
        (("drop", "a1", "--all"), "either ids or --all"),
        (("drop", "--reason", "poison", "a1"), "--reason goes with --all"),
        (("retry", ""), "an id is wanted, or"),
        (("show", ""), "an id is wanted, or"),
    ],
)
async def test_dead_letters_are_named_or_meant_all(args: tuple[str, ...], words: str) -> None:
    ended = await jobcast("dead", *args, env={"JOBCAST_AMQP_URL": NOWHERE})
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert words in ended.err


async def test_dead_letters_out_of_reach_are_one_line() -> None:
    for args in (("list",), ("show", "a"), ("retry", "--all"), ("drop", "--all", "--yes")):
        ended = await jobcast("dead", *args, env={"JOBCAST_AMQP_URL": NOWHERE})
        assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
        assert "sesame" not in ended.err
