"""What every command shares: exit codes, the environment, and telling trouble in one line."""

import asyncio
import os
from collections.abc import Coroutine, Mapping
from typing import Annotated, Any, Final, NoReturn

import typer

from jobcast.client import Client
from jobcast.environment import Environment
from jobcast.errors import BadSetting, JobcastError
from jobcast.job import Status
from jobcast.outbox import InvalidEvent
from jobcast.problems import Conflict, JobGone, JobNotFound

EXIT: Final[Mapping[Status, int]] = {
    Status.SUCCEEDED: 0,
    Status.FAILED: 3,
    Status.CANCELED: 4,
}
"""How a job has ended, for the commands that wait for it."""

TROUBLE: Final = 1
USAGE: Final = 2
TIMED_OUT: Final = 5
NO_SUCH_JOB: Final = 6
NOT_NOW: Final = 7
INTERRUPTED: Final = 130

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
OfOwner = Annotated[str | None, typer.Option("--owner", help="Another owner (admin).")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def amqp_url() -> str:
    default = "amqp://guest:guest@127.0.0.1:5672/"
    return Environment(os.environ).url("JOBCAST_AMQP_URL", default, schemes=("amqp", "amqps"))


def client(*, amqp: bool = False) -> Client:
    """With `amqp` one that can subscribe."""
    environment = Environment(os.environ)
    url = environment.url("JOBCAST_URL", "http://127.0.0.1:8080", schemes=("http", "https"))
    return Client(url, environment.optional("JOBCAST_TOKEN"), amqp_url=amqp_url() if amqp else None)


def finish(work: Coroutine[Any, Any, int]) -> int:
    """Runs it and answers the exit code; what was to be expected is told in one line."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        return INTERRUPTED
    except TimeoutError as error:
        say(str(error))
        return TIMED_OUT
    except (JobNotFound, JobGone) as error:
        say(str(error))
        return NO_SUCH_JOB
    except Conflict as error:
        say(str(error))
        return NOT_NOW
    except JobcastError as error:
        say(str(error))
        return USAGE if isinstance(error, InvalidEvent | BadSetting) else TROUBLE


def say(text: str) -> None:
    typer.echo(f"jobcast: {text}", err=True)


def fail(text: str, code: int) -> NoReturn:
    say(text)
    raise typer.Exit(code)
