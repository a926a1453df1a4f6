"""`python -m tests.chaos --minutes M --seed N [--partitions 1|4]`: the ledger at any length.

Without `--partitions` half of the time goes to one partition, half to four. Exit code 1 on any
loss, wrong final state, disorder or repeat.
"""

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import uvloop

from tests.chaos.report import text, write_document, write_json
from tests.chaos.run import Result, Settings, run

LONG_MINUTES: Final = 10.0
PARTITIONS: Final = (1, 4)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="of disturbance, in all")
    parser.add_argument("--seed", type=int, default=1, help="chooses everything that is done")
    parser.add_argument("--partitions", type=int, choices=PARTITIONS, action="append")
    parser.add_argument("--per-second", type=float, default=450.0, help="events at most")
    parser.add_argument("--calm", action="store_true", help="without any disturbance")
    parser.add_argument("--json", type=Path, help="where to write the ledger as JSON")
    parser.add_argument("--folder", type=Path, help="for servers and logs; kept")
    return parser.parse_args()


def main() -> int:
    for name in [name for name in os.environ if name.startswith("JOBCAST_")]:
        del os.environ[name]
    # What breaks a connection is said by the nemesis; the libraries' tracebacks say no more.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    given = arguments()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="jobcast-chaos-"))
    partitions = given.partitions or PARTITIONS
    results: list[Result] = []
    for number in partitions:
        settings = Settings(
            seconds=given.minutes * 60 / len(partitions),
            seed=given.seed,
            partitions=number,
            folder=folder / f"partitions-{number}",
            per_s=given.per_second,
            calm=given.calm,
        )
        settings.folder.mkdir(parents=True, exist_ok=True)
        results.append(uvloop.run(run(settings)))
        (settings.folder / "chaos.log").write_text("\n".join(results[-1].log) + "\n")
        print(text(results[-1]), flush=True)
    write_json(given.json or folder / "ledger.json", results)
    if given.minutes >= LONG_MINUTES and not given.calm:
        write_document(results, time.strftime("%Y-%m-%d", time.gmtime()))
    good = all(result.ok for result in results)
    if good and given.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    elif not good:
        print(f"the logs and the record of disturbances are in {folder}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
