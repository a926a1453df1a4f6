"""Where the figures go: every raw row into a file, a summary onto the terminal."""

import csv
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

FOLDER: Final = Path(__file__).parent / "results"

Row = Mapping[str, str | int | float]


class Failed(Exception):
    """What was to be stored, delivered or answered was not; the text says what."""


def write_rows(name: str, rows: Sequence[Row]) -> Path:
    """Writes the raw rows; the columns are those of all rows, in order of appearance."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.csv"
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median, and from where to where."""
    if not values:
        return "-"
    middle, low, high = median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left")
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
