"""The commands about jobs: run, watch, wait, list, report."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import uuid4

import msgspec
import typer
from rich.console import Console

from jobcast.display import Bars, Lines, line_of, print_table
from jobcast.events import EXECUTORS, Event
from jobcast.filters import Filters
from jobcast.job import DEFAULT_OPERATION, Job
from jobcast.outbox import checked
from jobcast.reporter import Description, Reporter, Undelivered
from jobcast.run import GRACE_S
from jobcast.run import run as run_command
from jobcast.terminal import (
    EXIT,
    NO_SUCH_JOB,
    TROUBLE,
    USAGE,
    AsJson,
    JobId,
    amqp_url,
    client,
    fail,
    finish,
    say,
)

FLUSH_S: Final = 10.0

Owner = Annotated[str, typer.Option(help="The user the job belongs to.")]
Operation = Annotated[str, typer.Option(help="What kind of work it is.")]
Label = Annotated[list[str] | None, typer.Option(help="NAME=VALUE, repeated.")]
Which = Annotated[list[str] | None, typer.Option(help="Repeated: any of them.")]

KINDS: Final = {kind.type.removeprefix("job."): kind for kind in EXECUTORS}


def run(  # noqa: PLR0913 - one parameter for each option of the command line
    command: Annotated[list[str], typer.Argument(help="The command and its arguments.")],
    *,
    owner: Owner,
    operation: Operation = "run",
    id: Annotated[str | None, typer.Option(help="The job's id; default: a random one.")] = None,
    name: Annotated[str | None, typer.Option(help="Default: the program.")] = None,
    group: Annotated[str | None, typer.Option(help="The job group.")] = None,
    label: Label = None,
    lease: Annotated[float | None, typer.Option(help="Seconds; dead if silent for longer.")] = None,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds from SIGTERM to SIGKILL when it is canceled.")
    ] = GRACE_S,
    flush: Annotated[
        float, typer.Option(help="Seconds to wait for the broker at the end.")
    ] = FLUSH_S,
) -> None:
    """Run any command as a job: its output gives the progress, its exit code the end.

    The exit code is the command's, 128+n if signal n has ended it. When the job is canceled the
    command gets SIGTERM. Needs JOBCAST_AMQP_URL.
    """
    description: Description = {"owner": owner, "operation": operation}
    description["name"] = (name or os.path.basename(command[0]))[:256]
    if group is not None:
        description["group"] = group
    if lease is not None:
        description["lease_s"] = lease
    if label:
        description["labels"] = _labels(label)
    raise typer.Exit(finish(_run(command, id or str(uuid4()), description, grace, flush)))


async def _run(
    command: Sequence[str], job_id: str, description: Description, grace_s: float, flush_s: float
) -> int:
    code: int | None = None
    say(f"job {job_id}")
    try:
        async with (
            Reporter(amqp_url(), owner=description["owner"], close_s=flush_s) as reporter,
            reporter.job(job_id, grace_s=None, **description) as job,
        ):
            code = await run_command(command, job, grace_s=grace_s)
    except Undelivered as error:
        say(f"job {job_id}: {error}; the service does not know how it ended")
    except asyncio.CancelledError:
        if code is None:
            raise
        say(f"job {job_id}: interrupted before the broker has confirmed its end")
    return TROUBLE if code is None else code


def watch(job_id: JobId, json: AsJson = False) -> None:
    """Follow one job to its end, live. Needs JOBCAST_URL and JOBCAST_TOKEN."""
    raise typer.Exit(finish(_watch(job_id, json)))


async def _watch(job_id: str, json: bool) -> int:
    console = Console()
    display = Bars(console) if console.is_terminal and not json else Lines(console, json=json)
    last: Job | None = None
    async with client() as service, aclosing(service.watch(job_id)) as changes:
        with display:
            async for change in changes:
                last = change.job
                display.show(change)
    return NO_SUCH_JOB if last is None else EXIT.get(last.status, NO_SUCH_JOB)


def wait(
    job_id: JobId,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds; default: for ever.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Wait until a job has ended; the exit code tells how: 0 succeeded, 3 failed, 4 canceled,
    5 timed out, 6 no such job or no longer.
    """
    raise typer.Exit(finish(_wait(job_id, timeout, json)))


async def _wait(job_id: str, timeout_s: float | None, json: bool) -> int:
    async with client() as service:
        job = await service.wait(job_id, timeout_s)
    typer.echo(msgspec.json.encode(job).decode() if json else line_of(job))
    return EXIT[job.status]


def list_jobs(  # noqa: PLR0913 - one parameter for each option of the command line
    *,
    status: Which = None,
    outcome: Which = None,
    operation: Which = None,
    group: Which = None,
    label: Label = None,
    owner: Annotated[str | None, typer.Option(help="Another owner, or * (admin).")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    json: AsJson = False,
) -> None:
    """List your jobs, newest first."""
    filters: Filters = {}
    chosen = {"status": status, "outcome": outcome, "operation": operation, "group": group}
    filters.update({k: v for k, v in chosen.items() if v})  # type: ignore[typeddict-item]
    if label:
        filters["labels"] = _labels(label)
    if owner is not None:
        filters["owner"] = owner
    raise typer.Exit(finish(_list(filters, limit, json)))


async def _list(filters: Filters, limit: int, json: bool) -> int:
    jobs: list[Job] = []
    async with (
        client() as service,
        aclosing(service.list(page_size=min(limit, 500), **filters)) as found,
    ):
        async for job in found:
            jobs.append(job)
            if len(jobs) == limit:
                break
    if json:
        for job in jobs:
            typer.echo(msgspec.json.encode(job).decode())
    else:
        print_table(jobs)
    return 0


def report(  # noqa: PLR0913 - one parameter for each option of the command line
    kind: Annotated[str, typer.Argument(metavar="TYPE", help=", ".join(KINDS))],
    job_id: JobId,
    *,
    owner: Owner,
    percent: Annotated[float | None, typer.Option(help="0 to 100.")] = None,
    message: Annotated[str | None, typer.Option(help="The last words.")] = None,
    data: Annotated[str, typer.Option(help="Further fields, as a JSON object.")] = "{}",
    attempt: Annotated[int, typer.Option(min=1)] = 1,
    http: Annotated[
        bool, typer.Option("--http", help="By POST /v1/events, not over AMQP.")
    ] = False,
) -> None:
    """Publish one lifecycle event. Needs JOBCAST_AMQP_URL, or with --http JOBCAST_URL."""
    said = {"percent": percent, "message": message}
    facts = {name: value for name, value in said.items() if value is not None}
    common = {"job_id": job_id, "owner": owner, "attempt": attempt}
    event = _event(kind, data, facts, common)
    raise typer.Exit(finish(_report(event, http)))


async def _report(event: Event, http: bool) -> int:
    if http:
        async with client() as service:
            await service.report(event)
        return 0
    async with Reporter(amqp_url(), owner=event.owner, close_s=FLUSH_S) as reporter:
        await reporter.send(event)
    return 0


def _event(kind: str, data: str, facts: dict[str, Any], common: dict[str, Any]) -> Event:
    """The event as typed in; leaves with one line if it is not one."""
    type_ = KINDS.get(kind.removeprefix("job."))
    if type_ is None:
        fail(f"{kind}: one of {', '.join(KINDS)} is wanted", USAGE)
    allowed = {field.name for field in msgspec.structs.fields(type_)} - set(Event.__struct_fields__)
    try:
        fields = msgspec.json.decode(data, type=dict[str, Any]) | facts
        if unknown := set(fields) - allowed:
            fail(f"{type_.type} has no {', '.join(sorted(unknown))}", USAGE)
        named = {"id": str(uuid4()), "source": "/jobcast/cli", "time": datetime.now(UTC)} | common
        event = msgspec.json.decode(msgspec.json.encode(fields | named), type=type_)
        checked(event, DEFAULT_OPERATION)
    except (msgspec.DecodeError, ValueError) as error:
        fail(f"{type_.type}: {error}", USAGE)
    return event


def _labels(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if not pair.partition("=")[1]:
            fail(f"--label {pair}: NAME=VALUE is wanted", USAGE)
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
