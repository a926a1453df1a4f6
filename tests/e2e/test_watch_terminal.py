"""`jobcast watch` in a real terminal: bars that keep within it."""

import asyncio
import fcntl
import os
import pty
import re
import struct
import sys
import termios

from deploy.stack import python_environment
from jobcast.job import Status
from tests.scripted_api import event, job, opening, scripted_api, stream

ROWS, COLUMNS = 10, 60
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


async def printed(url: str) -> tuple[int, str]:
    """The exit code, and what has gone to a terminal of that size."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    env = {k: v for k, v in python_environment().items() if k not in {"COLUMNS", "LINES"}}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jobcast.cli", "watch", "j1"),
        env=env | {"JOBCAST_URL": url, "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    text = await asyncio.to_thread(_drained, ours)
    return await process.wait(), text


def _drained(terminal: int) -> str:
    found = b""
    try:
        while chunk := os.read(terminal, 65_536):
            found += chunk
    except OSError:  # EIO: nobody holds the other end any more
        pass
    os.close(terminal)
    return found.decode()


async def test_bars_of_targets_keep_within_the_terminal() -> None:
    targets = {f"volume-{number}": 100.0 if number < 10 else float(number) for number in range(30)}
    fields = {"targets": targets, "message": "no space left on any of the disks " * 9}
    end = job(3, Status.FAILED, percent=40, name="[bold]", **fields)
    blocks = opening("fresh"), event("snapshot", job(1), "1-0"), event("failed", end, "2-0")
    async with scripted_api(stream(*blocks)) as api:
        code, text = await printed(api.url)
    assert code == 3
    lines = re.split(r"[\r\n]+", ESCAPES.sub("", text).rstrip())
    last = lines[-(ROWS - 1) :]
    assert re.match(r"failed \[bold\] +━+[╸╺]?━* +40% no space", last[0])
    assert [line.split()[0] for line in last[1:8]] == [f"volume-{n}" for n in range(10, 17)]
    assert last[8].split("…")[1].strip() == "23 more, 10 of them done"
    assert all(len(line) <= COLUMNS for line in last)
