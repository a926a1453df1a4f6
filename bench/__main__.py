"""`python -m bench ingest|streams|auth|overload|soak`: tables, and raw rows in bench/results."""

import argparse
import sys

from bench import auth, ingest, overload, soak, streams


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for module in (ingest, streams, auth, overload, soak):
        name = module.__name__.rpartition(".")[2]
        command = commands.add_parser(name, help=(module.__doc__ or "").partition("\n")[0])
        module.options(command)
        command.set_defaults(run=module.run)
    given = parser.parse_args()
    result: int = given.run(given)
    return result


if __name__ == "__main__":
    sys.exit(main())
