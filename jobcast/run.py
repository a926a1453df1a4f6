"""Running any command as a job.

Owns the child and its process group, the pipes of its output, and our signal handlers while it
runs. Promises to pass the output through unchanged, to pass signals on, to stop the command when
the job is to be canceled, and to choose the job's end from the exit. Never lets reporting slow the
command down or keep it from running.
"""

import asyncio
import os
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from jobcast.output import Output
from jobcast.report import JobReport

STDOUT: Final = 1
STDERR: Final = 2
CHUNK: Final = 65_536
INTERVAL_S: Final = 0.2
"""Between two reports of progress; the latest wins."""
DRAIN_S: Final = 2.0
"""How long the output may stay open after the command: a daemon it left may hold it for ever."""
GRACE_S: Final = 10.0
"""Between SIGTERM and SIGKILL when the job is to be canceled."""
LOOK_S: Final = 0.05
"""Between two looks at whether any process of the command is left."""
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
BY_SIGNAL: Final = 128
STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Progress:
    """What both streams have said so far, the later word winning."""

    def __init__(self) -> None:
        self.percent: float | None = None
        self.message: str | None = None
        self.changed = asyncio.Event()

    def hear(self, output: Output) -> None:
        self.percent = self.percent if output.percent is None else output.percent
        self.message = output.message or self.message
        self.changed.set()

    async def tell(self, job: JobReport) -> None:
        self.changed.clear()
        await job.progress(self.percent, message=self.message)


async def run(command: Sequence[str], job: JobReport, *, grace_s: float = GRACE_S) -> int:
    """Runs `command` and answers its exit code as a shell would: 128+n for signal n.

    SIGINT, SIGTERM and SIGHUP go on to the command's process group and make the end `canceled`. A
    command that cannot be started fails the job: 127 if it is not found, else 126.

    When the job is to be canceled its process group gets SIGTERM, and `grace_s` seconds later what
    is left of it SIGKILL; the end is `canceled`, or `succeeded` if the exit code is 0 all the same.
    The job's block must leave that to us: `grace_s=None` there.
    """
    pipes = os.pipe(), os.pipe()
    with _signals() as (forward, received):
        try:
            # A session of its own: the terminal's Ctrl-C reaches the command once, through us.
            process = await asyncio.create_subprocess_exec(
                *command, stdout=pipes[0][1], stderr=pipes[1][1], start_new_session=True
            )
        except OSError as error:
            for pipe in pipes:
                os.close(pipe[0])
            return _not_started(job, command[0], error)
        finally:
            for pipe in pipes:
                os.close(pipe[1])
        forward(process.pid)
        progress = Progress()
        ends = pipes[0][0], pipes[1][0]
        code, asked = await _watched(process, job, progress, ends, grace_s)
    _choose_end(job, code, progress.message, stopped=bool(received) or (asked and code != 0))
    return BY_SIGNAL - code if code < 0 else code


async def _watched(
    process: asyncio.subprocess.Process,
    job: JobReport,
    progress: Progress,
    pipes: tuple[int, int],
    grace_s: float,
) -> tuple[int, bool]:
    """The return code, once the command has ended and its output has been read; and whether it was
    asked to end because the job is to be canceled."""
    async with asyncio.TaskGroup() as group:
        telling = group.create_task(_keep_telling(progress, job))
        stopping = group.create_task(_stop_when_canceled(process.pid, job, grace_s))
        pumps = [
            group.create_task(_pump(pipe, target, progress.hear))
            for pipe, target in zip(pipes, (STDOUT, STDERR), strict=True)
        ]
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await _stop(process.pid, grace_s)
            raise
        if asked := job.cancel_requested.is_set():
            await stopping  # the command has ended, what it has started may not have
        await asyncio.wait(pumps, timeout=DRAIN_S)
        for task in (telling, stopping, *pumps):
            task.cancel()
    if progress.changed.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await progress.tell(job)
    return code, asked


async def _keep_telling(progress: Progress, job: JobReport) -> None:
    while True:
        await progress.changed.wait()
        await progress.tell(job)
        await asyncio.sleep(INTERVAL_S)


async def _pump(pipe: int, target: int, hear: Callable[[Output], None]) -> None:
    """Copies until the end; when nobody reads us any more the command learns of it by SIGPIPE."""
    output = Output()
    reader = asyncio.StreamReader(limit=CHUNK)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", buffering=0)
    )
    try:
        while chunk := await reader.read(CHUNK):
            if output.feed(chunk):
                hear(output)
            await asyncio.to_thread(_write, target, chunk)
        if output.finish():
            hear(output)
    except BrokenPipeError:
        pass
    finally:
        transport.close()


def _write(target: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        try:
            view = view[os.write(target, view) :]
        except BlockingIOError:  # somebody has made the terminal non-blocking
            select.select([], [target], [])


@contextmanager
def _signals() -> Iterator[tuple[Callable[[int], None], list[int]]]:
    """A function that names the process group to pass signals on to, and the signals received."""
    loop = asyncio.get_running_loop()
    received: list[int] = []
    groups: list[int] = []

    def on(number: int) -> None:
        received.append(number)
        for group in groups:
            _signal_group(group, number)

    def forward(group: int) -> None:
        groups.append(group)
        for number in received:
            _signal_group(group, number)

    before = {number: signal.getsignal(number) for number in STOPPING}
    for number in STOPPING:
        loop.add_signal_handler(number, on, number)
    try:
        yield forward, received
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _signal_group(group: int, number: int) -> bool:
    """Whether there was anybody to get it; 0 asks no more than that."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # all of them are somebody else's by now: sudo
        return True
    return True


async def _stop_when_canceled(group: int, job: JobReport, grace_s: float) -> None:
    await job.cancel_requested.wait()
    await _stop(group, grace_s)


async def _stop(group: int, grace_s: float) -> None:
    """SIGTERM, then SIGKILL for those that are left."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + grace_s
    alive = _signal_group(group, signal.SIGTERM)
    while alive and clock() < deadline:
        await asyncio.sleep(LOOK_S)
        alive = _signal_group(group, 0)
    if alive:
        _signal_group(group, signal.SIGKILL)


def _not_started(job: JobReport, name: str, error: OSError) -> int:
    code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    why = "command not found" if code == NOT_FOUND else error.strerror or "cannot be executed"
    text = f"{name}: {why}"
    _write(STDERR, f"jobcast: {text}\n".encode("utf-8", "replace"))
    job.fail("exit", text, reason_code=code, result={"exit_code": code})
    return code


def _choose_end(job: JobReport, code: int, message: str | None, *, stopped: bool) -> None:
    result = {"exit_code": BY_SIGNAL - code if code < 0 else code}
    if stopped:
        job.cancel(message, result=result)
    elif code == 0:
        job.succeed(result=result, status_code=200, message=message)
    elif code > 0:
        job.fail("exit", f"exit code {code}", reason_code=code, result=result, message=message)
    else:
        text = f"killed by {_signal_name(-code)}"
        exit_code = BY_SIGNAL - code
        job.fail("signal", text, reason_code=exit_code, result=result, message=message)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
