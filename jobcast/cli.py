"""The command line: which commands there are. Each says what went wrong in one line.

Exit codes of `wait` and `watch`: 0 succeeded, 3 failed, 4 canceled, 5 timed out, 6 no such job or
no longer; of all commands: 1 the service or the broker did not do it, 2 wrong usage. `run` has the
exit code of its command.
"""

import logging
import sys

import typer

from jobcast import commands_dead as dead
from jobcast import commands_jobs as jobs

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Report jobs, watch them, wait for their end.",
)
app.command(context_settings={"allow_interspersed_args": False})(jobs.run)
app.command()(jobs.watch)
app.command()(jobs.wait)
app.command("list")(jobs.list_jobs)
app.command()(jobs.report)

letters = typer.Typer(no_args_is_help=True, help="Look after dead letters, for operators.")
letters.command("list")(dead.list_letters)
letters.command()(dead.show)
letters.command()(dead.retry)
letters.command()(dead.drop)
app.add_typer(letters, name="dead")


def main() -> None:
    """The console script."""
    logging.basicConfig(format="jobcast: %(message)s", level=logging.WARNING, stream=sys.stderr)
    for noisy in ("aiormq", "aio_pika", "httpx"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)  # we say the same, once
    app()


if __name__ == "__main__":
    main()
