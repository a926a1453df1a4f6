"""Real commands run as jobs, as an executor's team runs them: `jobcast run`."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from deploy.stack import python_environment

COUNT_SLOWLY: Final = """
import sys, time, zlib
data = bytes(range(256)) * 4096
for part in range(1, 21):
    zlib.compress(data, 9)
    time.sleep(0.15)
    print(f"compressed {part * 5}%", flush=True)
print("archive complete")
"""


async def run_job(
    amqp_url: str, owner: str, job_id: str, command: Sequence[str]
) -> tuple[int, str]:
    """`jobcast run` of a command; its exit code and what it has printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jobcast.cli", "run", "--owner", owner, "--id", job_id),
        *("--operation", "backup", "--", *command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=python_environment() | {"JOBCAST_AMQP_URL": amqp_url},
    )
    printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode()
