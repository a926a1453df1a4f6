"""`python -m bench NAME`: measures, prints tables, writes raw rows to bench/results."""

import argparse
import sys
from typing import Final

from bench import auth, ingest, overload, pages, soak, streams

MODULES: Final = {
    "ingest": ingest,
    "streams": streams,
    "auth": auth,
    "list": pages,
    "overload": overload,
    "soak": soak,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in MODULES.items():
        command = commands.add_parser(name, help=(module.__doc__ or "").partition("\n")[0])
        module.options(command)
        command.set_defaults(run=module.run)
    given = parser.parse_args()
    result: int = given.run(given)
    return result


if __name__ == "__main__":
    sys.exit(main())
