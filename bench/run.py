"""One measurement: servers of its own, the rows, the file they go to, and what is said of them."""

from collections.abc import Callable, Coroutine

import uvloop

from bench.machine import describe
from bench.results import Failed, Row, write_rows
from bench.servers import Servers, private_servers

Measure = Callable[[Servers, list[Row]], Coroutine[object, object, None]]


def measured(name: str, measure: Measure, report: Callable[[list[Row]], None]) -> int:
    """The exit code. `measure` adds its rows as it gets them: those before a failure are kept in
    the file, and `report` shows the rows of a whole run."""
    rows: list[Row] = []
    with private_servers() as servers:
        print(describe(servers.folder))
        try:
            uvloop.run(measure(servers, rows))
        except Failed as error:
            print(f"FAILED: {error}")
            return 1
        finally:
            if rows:
                print(f"raw rows: {write_rows(name, rows)}")
    report(rows)
    return 0
