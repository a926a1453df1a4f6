"""The commands that change a job, and its records: cancel, comment, delete, records."""

from typing import Annotated, Final

import msgspec
import typer

from jobcast.change import Record
from jobcast.display import line_of, print_records
from jobcast.problems import AlreadyEnded, CancelPending
from jobcast.terminal import EXIT, USAGE, AsJson, JobId, OfOwner, client, fail, finish, say

PAGE: Final = 1_000


def cancel(
    job_id: JobId,
    *,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until it has ended; the exit code is that of `wait`.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="With --wait: seconds; default: for ever.")
    ] = None,
    owner: OfOwner = None,
) -> None:
    """Ask a job's executor to cancel it.

    The exit code is 0 once it is to be canceled, 7 if it has ended or cannot be canceled.
    With --wait a job that has ended is fine: 0 succeeded, 3 failed, 4 canceled, 5 timed out.
    """
    if timeout is not None and not wait:
        fail("--timeout goes with --wait", USAGE)
    raise typer.Exit(finish(_cancel(job_id, wait, timeout, owner)))


async def _cancel(job_id: str, wait: bool, timeout_s: float | None, owner: str | None) -> int:
    async with client() as service:
        try:
            job = await service.cancel(job_id, owner=owner)
        except CancelPending as error:
            say(str(error))
            if not wait:
                return 0
        except AlreadyEnded:
            if not wait:
                raise
        else:
            if not wait:
                typer.echo(line_of(job))
                return 0
        job = await service.wait(job_id, timeout_s, owner=owner)
    typer.echo(line_of(job))
    return EXIT[job.status]


def comment(
    job_id: JobId,
    text: Annotated[str, typer.Argument(help="An empty one takes the comment away.")],
    *,
    owner: OfOwner = None,
) -> None:
    """Comment on a job; the last comment stays."""
    raise typer.Exit(finish(_comment(job_id, text, owner)))


async def _comment(job_id: str, text: str, owner: str | None) -> int:
    async with client() as service:
        await service.comment(job_id, text or None, owner=owner)
    return 0


def delete(job_id: JobId, *, owner: OfOwner = None) -> None:
    """Delete a job that has ended; the exit code is 7 if it has not."""
    raise typer.Exit(finish(_delete(job_id, owner)))


async def _delete(job_id: str, owner: str | None) -> int:
    async with client() as service:
        await service.delete(job_id, owner=owner)
    return 0


def records(
    job_id: Annotated[str | None, typer.Argument(metavar="ID", help="The job's id.")] = None,
    *,
    group: Annotated[str | None, typer.Option(help="Those of a job group instead.")] = None,
    owner: OfOwner = None,
    json: AsJson = False,
) -> None:
    """Show the records of a job, or of a job group, in the order in which they came."""
    if (job_id is None) == (group is None):
        fail("either an id or --group is wanted", USAGE)
    raise typer.Exit(finish(_records(job_id, group, owner, json)))


async def _records(job_id: str | None, group: str | None, owner: str | None, json: bool) -> int:
    found: list[Record] = []
    async with client() as service:
        while True:
            page = await service.records(
                job_id, group=group, offset=len(found), max=PAGE, owner=owner
            )
            found += page.records
            if not page.records or len(found) >= page.total:
                break
    if json:
        for record in found:
            typer.echo(msgspec.json.encode(record).decode())
    else:
        print_records(found)
    return 0
