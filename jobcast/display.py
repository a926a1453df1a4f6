"""Jobs on a terminal: live bars, plain lines, a table."""

from collections.abc import Mapping, Sequence
from typing import Final, Self

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobcast.change import Record
from jobcast.job import Job, Status
from jobcast.watch import Change

BAR_MIN: Final = 5
BAR_MAX: Final = 40
PERCENT: Final = len("100%")
WHOLE: Final = 100.0
CONTROL: Final = dict.fromkeys((*range(32), *range(127, 160)), " ")
PIPE_WIDTH: Final = 2000
COLORS: Final = {Status.SUCCEEDED: "green", Status.FAILED: "red", Status.CANCELED: "yellow"}


class Lines:
    """One line for each change, for pipes and logs; `json`: one JSON object."""

    def __init__(self, console: Console, *, json: bool) -> None:
        self._console = console
        self._json = json

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, change: Change) -> None:
        text = msgspec.json.encode(change).decode() if self._json else line_of(change.job)
        self._console.out(text, highlight=False)


class Bars:
    """A bar for the job, and below it one for each target as far as the terminal has room."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._job: Job | None = None
        self._live = Live(console=console, get_renderable=self._drawn)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, change: Change) -> None:
        self._job = change.job

    def _drawn(self) -> Group:
        """Anew for each look: the terminal may have changed its size. Every row is one line."""
        job = self._job
        if job is None:
            return Group()
        width, height = self._console.size
        room = height - 2  # one line for the job, one for the cursor
        bar = min(BAR_MAX, max(BAR_MIN, width // 4))
        title = Text(job.status.value, COLORS.get(job.status, "cyan"))
        title.append(f" {one_line(job.name or job.operation)}", "default")
        rows = [(Text(f"  {one_line(t)}"), percent) for t, percent in chosen(job.targets, room)]
        longest = max(text.cell_len for text in (title, *(text for text, _ in rows)))
        grid = _grid(width, bar, longest)
        grid.add_row(title, *_bar(job.percent, bar, moving=not job.ended), Text(words_of(job)))
        for text, percent in rows:
            grid.add_row(text, *_bar(percent, bar))
        hidden = hidden_from(job.targets, room)
        rest = [Text(f"  {hidden}", no_wrap=True, overflow="ellipsis")] if hidden else []
        return Group(grid, *rest)


def _grid(width: int, bar: int, longest: int) -> Table:
    """Columns for title, bar, percentage and words. Long words must not squeeze out the bars."""
    title = min(longest, max(BAR_MIN, width // 3))
    words = max(1, width - title - bar - PERCENT - 3)
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=title)
    grid.add_column(min_width=bar)
    grid.add_column(justify="right", min_width=PERCENT)
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=words)
    return grid


def chosen(targets: Mapping[str, float], room: int) -> list[tuple[str, float]]:
    """The targets to show in `room` lines, in their order: those under way before those that have
    not begun, and these before those that are done. Where not all find room, one line is left."""
    if len(targets) <= room:
        return list(targets.items())
    by_interest = sorted(targets, key=lambda target: _interest(targets[target]))
    shown = set(by_interest[: max(0, room - 1)])
    return [(target, percent) for target, percent in targets.items() if target in shown]


def hidden_from(targets: Mapping[str, float], room: int) -> str:
    """What there is besides, in one line; nothing where all are shown, or not even that fits."""
    if len(targets) <= room or room < 1:
        return ""
    shown = dict(chosen(targets, room))
    hidden = [percent for target, percent in targets.items() if target not in shown]
    done = sum(percent >= WHOLE for percent in hidden)
    return f"… {len(hidden)} more, {done} of them done"


def _interest(percent: float) -> int:
    if percent >= WHOLE:
        return 2
    return 1 if percent <= 0 else 0


def _bar(percent: float | None, width: int, *, moving: bool = False) -> tuple[ProgressBar, str]:
    """`moving`: a bar without a percentage shows that something goes on."""
    if percent is None:
        return ProgressBar(total=None if moving else WHOLE, width=width), ""
    return ProgressBar(total=WHOLE, completed=percent, width=width), f"{percent:.0f}%"


def line_of(job: Job) -> str:
    percent = "" if job.percent is None else f"{job.percent:g}%"
    parts = (job.updated_at, job.id, job.status.value, percent, words_of(job))
    return " ".join(part for part in parts if part)


def words_of(job: Job) -> str:
    """Its last words, on one line; of a failure without any the reason."""
    return one_line(job.message or (job.error.message or job.error.code if job.error else ""))


def one_line(text: str) -> str:
    """Without what a terminal would obey: the words are strangers'."""
    return " ".join(text.translate(CONTROL).split())


def print_table(jobs: Sequence[Job]) -> None:
    """On a narrow terminal cells are folded, in a pipe they are as wide as they are: ids are there
    to be copied.
    """
    table = _table("id", "operation", "name", "status", "%", "updated", "message")
    for job in jobs:
        color = COLORS.get(job.status, "cyan")
        percent = "" if job.percent is None else f"{job.percent:g}"
        status = f"[{color}]{job.status.value}[/]"
        row = (job.id, job.operation, job.name or "", percent, job.updated_at, words_of(job))
        cells = [escape(cell) for cell in row]
        table.add_row(*cells[:3], status, *cells[3:])
    _print(table)


def print_records(records: Sequence[Record]) -> None:
    """As `print_table`."""
    table = _table("at", "job", "group", "target", "code", "message")
    for r in records:
        row = (r.at, r.job, r.group or "", r.target, str(r.code), one_line(r.message or ""))
        table.add_row(*[escape(cell) for cell in row])
    _print(table)


def _table(*titles: str) -> Table:
    table = Table(box=None)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _print(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(table)
