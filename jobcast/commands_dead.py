"""`jobcast dead`: what operators do about dead letters. Needs JOBCAST_AMQP_URL."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from json import dumps as json_dumps
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobcast.choice import Choice, Found, Prefix
from jobcast.dead import DeadLetters, Unwritable, opened_dead_letters
from jobcast.letter import Letter, Row, body_shown, described, row_of
from jobcast.terminal import TROUBLE, USAGE, AsJson, amqp_url, fail, finish, say
from jobcast.tour import Pass, Verdict

PIPE_WIDTH: Final = 2000
NONE: Final = "no dead letters"

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID…", help="Ids, or how they begin.", show_default=False),
]
Reason = Annotated[list[str] | None, typer.Option(help="Only these; repeated: any of them.")]
Everything = Annotated[bool, typer.Option("--all", help="All letters, or all of --reason.")]


def list_letters(
    *,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    json: AsJson = False,
) -> None:
    """List dead letters, oldest first. Looking wears nothing out."""
    raise typer.Exit(finish(_list(Choice(reasons=reason or ()), limit, json)))


async def _list(choice: Choice, limit: int, json: bool) -> int:
    rows: list[Row] = []
    matching = 0

    async def visit(letter: Letter) -> Verdict:
        nonlocal matching
        if choice.takes(letter):
            matching += 1
            if len(rows) < limit:
                rows.append(row_of(letter))
        full = len(rows) == limit and not choice.reasons
        return Verdict.ENOUGH if full else Verdict.KEEP

    async with opened_dead_letters(amqp_url()) as dead:
        tour = await dead.look(visit)
    if json:
        for row in rows:
            typer.echo(_ascii_json(row))
    elif rows:
        _print_table(rows)
    shown = f"{len(rows)} shown of "
    shown += f"{matching} ({tour.total} in all)" if choice.reasons else f"{tour.total}"
    typer.echo(shown if tour.total else NONE, err=json)
    _tell_company(tour)
    return 0


def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="An id, or how it begins.")],
    raw: Annotated[bool, typer.Option("--raw", help="The body alone, byte for byte.")] = False,
) -> None:
    """Show one dead letter: why it is here, its headers, its body."""
    _check([letter_id], False, None)
    raise typer.Exit(finish(_show(letter_id, raw)))


async def _show(letter_id: str, raw: bool) -> int:
    async with opened_dead_letters(amqp_url()) as dead:
        (found,) = await _found(dead, [Prefix(letter_id, keep=True)])
    letter = found.first
    assert letter is not None  # noqa: S101 - it was to be kept
    if raw:
        sys.stdout.buffer.write(letter.body)
        sys.stdout.buffer.flush()
        return 0
    for name, value in described(letter).items():
        typer.echo(f"{name}: {value}")
    text, left_out = body_shown(letter.body)
    typer.echo(f"body ({len(letter.body)} bytes):\n{text}")
    if left_out:
        typer.echo(f"… {left_out} characters more; --raw writes them all")
    if found.count > 1:
        say(f"{found.count} letters have this id; this is the first")
    return 0


def retry(ids: Ids = None, *, all_: Everything = False, reason: Reason = None) -> None:
    """Send dead letters to the service again, as they came. One that is still bad comes back."""
    _check(ids, all_, reason)
    raise typer.Exit(finish(_remove(ids or (), reason or (), _sent_again, "sent again")))


def drop(
    ids: Ids = None,
    *,
    all_: Everything = False,
    reason: Reason = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove dead letters for good."""
    _check(ids, all_, reason)
    if all_ and not yes:
        _confirm(reason or ())
    raise typer.Exit(finish(_remove(ids or (), reason or (), _dropped, "dropped")))


Act = Callable[[DeadLetters, Letter], Awaitable[bool]]
"""What is done about a letter before it is removed; answers whether it may be."""


async def _sent_again(dead: DeadLetters, letter: Letter) -> bool:
    try:
        await dead.send_again(letter)
    except Unwritable as error:
        say(str(error))
        return False
    return True


async def _dropped(_: DeadLetters, __: Letter) -> bool:
    return True


async def _remove(ids: Sequence[str], reasons: Sequence[str], act: Act, done: str) -> int:
    removed, kept = 0, 0
    async with opened_dead_letters(amqp_url()) as dead:
        found = await _found(dead, [Prefix(id) for id in ids])
        choice = Choice([one.id for one in found], reasons)

        async def visit(letter: Letter) -> Verdict:
            nonlocal removed, kept
            if not choice.takes(letter):
                return Verdict.KEEP
            if not await act(dead, letter):
                kept += 1
                return Verdict.KEEP
            removed += 1
            return Verdict.REMOVE

        try:
            tour = await dead.look(visit)
        except BaseException:
            say(f"{removed} {done}, then it was interrupted")
            raise
    typer.echo(f"{removed} {done}" if tour.total else NONE)
    _tell_company(tour)
    return TROUBLE if kept else 0


async def _found(dead: DeadLetters, prefixes: Sequence[Prefix]) -> list[Found]:
    """Before anything is done about one of them, all are known to be meant."""

    async def visit(letter: Letter) -> Verdict:
        for prefix in prefixes:
            prefix.see(letter)
        return Verdict.KEEP

    if prefixes:
        _tell_company(await dead.look(visit))
    return [prefix.found for prefix in prefixes]


def _check(ids: Sequence[str] | None, everything: bool, reasons: Sequence[str] | None) -> None:
    if everything == bool(ids):
        fail("either ids or --all is wanted", USAGE)
    if ids and "" in ids:
        fail("an id is wanted, or how it begins", USAGE)
    if reasons and not everything:
        fail("--reason goes with --all", USAGE)


def _confirm(reasons: Sequence[str]) -> None:
    which = "every dead letter" + (f" of reason {' or '.join(reasons)}" if reasons else "")
    if not sys.stdin.isatty():
        fail(f"drop {which}? nobody is there to ask; --yes is wanted", USAGE)
    if not typer.confirm(f"drop {which}?", err=True):
        fail("nothing was dropped", TROUBLE)


def _tell_company(tour: Pass) -> None:
    if tour.company:
        say("somebody else is looking at dead letters too; those they hold were not seen")


def _ascii_json(row: Row) -> str:
    """Beyond ASCII, and at DEL, terminals have escapes of their own."""
    return json_dumps(msgspec.to_builtins(row)).replace("\x7f", "\\u007f")


def _print_table(rows: Sequence[Row]) -> None:
    """On a narrow terminal cells are folded, in a pipe they are as wide as they are."""
    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    table = Table(box=None)
    told = [msgspec.to_builtins(row) for row in rows]
    names = [name for name in Row.__struct_fields__ if any(row[name] for row in told)]
    for name in names:
        table.add_column(name, overflow="fold")
    for row in told:
        table.add_row(*(Text(str(row[name] or "")) for name in names))
    console.print(table)
