"""Jobs on a terminal: a live bar, plain lines, a table."""

from collections.abc import Sequence
from typing import Final, Self

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Table

from jobcast.job import Job, Status
from jobcast.watch import Change

TARGETS_SHOWN: Final = 10
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
    """A bar for the job and one for each of its first targets."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[words]}"),
        )
        self._progress = Progress(*columns, console=console)
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, change: Change) -> None:
        job = change.job
        color = COLORS.get(job.status, "cyan")
        title = f"[{color}]{job.status.value}[/] {escape(job.name or job.operation)}"
        self._bar("", title, job.percent, words_of(job))
        for target, percent in list(job.targets.items())[:TARGETS_SHOWN]:
            self._bar(target, f"  {escape(target)}", percent, "")

    def _bar(self, key: str, title: str, percent: float | None, words: str) -> None:
        if key not in self._bars:
            self._bars[key] = self._progress.add_task(title, total=None, words="")
        total = None if percent is None else 100
        self._progress.update(
            self._bars[key],
            description=title,
            total=total,
            completed=percent or 0,
            words=escape(words),
        )


def line_of(job: Job) -> str:
    percent = "" if job.percent is None else f"{job.percent:g}%"
    parts = (job.updated_at, job.id, job.status.value, percent, words_of(job))
    return " ".join(part for part in parts if part)


def words_of(job: Job) -> str:
    """Its last words, on one line; of a failure without any the reason."""
    text = job.message or (job.error.message or job.error.code if job.error else "")
    return " ".join(text.split())


def print_table(jobs: Sequence[Job]) -> None:
    """On a narrow terminal cells are folded, in a pipe they are as wide as they are: ids are there
    to be copied.
    """
    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    table = Table(box=None)
    for title in ("id", "operation", "name", "status", "%", "updated", "message"):
        table.add_column(title, overflow="fold")
    for job in jobs:
        color = COLORS.get(job.status, "cyan")
        percent = "" if job.percent is None else f"{job.percent:g}"
        status = f"[{color}]{job.status.value}[/]"
        row = (job.id, job.operation, job.name or "", percent, job.updated_at, words_of(job))
        cells = [escape(cell) for cell in row]
        table.add_row(*cells[:3], status, *cells[3:])
    console.print(table)
