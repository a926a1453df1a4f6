"""The command about durable subscriptions: subscribe."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from jobcast.display import line_of
from jobcast.filters import EVENTS
from jobcast.terminal import USAGE, AsJson, client, fail, finish

Some = Annotated[list[str] | None, typer.Option(help="Repeated: any of them.")]


def subscribe(
    name: Annotated[str, typer.Argument(help="The subscription's name; its queue keeps it.")],
    *,
    event: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(EVENTS)}; repeated: any of them.")
    ] = None,
    operation: Some = None,
    json: AsJson = False,
) -> None:
    """Print a line for each notification, for ever; one is acknowledged once it is printed.

    What comes while nobody listens is kept, and printed first the next time. Needs
    JOBCAST_AMQP_URL with the subscriber's own login, or without a password JOBCAST_TOKEN.
    """
    raise typer.Exit(finish(_subscribe(name, event, operation, json)))


async def _subscribe(
    name: str, event: Sequence[str] | None, operation: Sequence[str] | None, json: bool
) -> int:
    try:
        service = client(amqp=True)
        notifications = service.subscribe(name, event=event, operation=operation)
    except ValueError as error:
        fail(str(error), USAGE)
    async with service:
        async for one in notifications:
            typer.echo(msgspec.json.encode(one).decode() if json else line_of(one.job))
    return 0
