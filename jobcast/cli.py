"""The command line: which commands there are. Each says what went wrong in one line.

Exit codes of `wait`, `watch` and `cancel --wait`: 0 succeeded, 3 failed, 4 canceled, 5 timed out;
of all commands about a job: 6 no such job or no longer, 7 the job does not stand where that can be
done; of all commands: 1 the service or the broker did not do it, 2 wrong usage. `run` has the exit
code of its command.
"""

import logging
import sys

import typer

from jobcast import commands_control as control
from jobcast import commands_dead as dead
from jobcast import commands_jobs as jobs
from jobcast import commands_subscriptions as subscriptions

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Report jobs, watch them, wait for their end, control them.",
)
app.command(context_settings={"allow_interspersed_args": False})(jobs.run)
app.command()(jobs.watch)
app.command()(jobs.wait)
app.command("list")(jobs.list_jobs)
app.command()(jobs.report)
app.command()(control.cancel)
app.command()(control.comment)
app.command()(control.delete)
app.command()(control.records)
app.command()(subscriptions.subscribe)

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
