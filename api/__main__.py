"""`python -m api` serves; `python -m api user add|remove|list|rotate` edits the users file."""

import argparse
import logging
import os
import sys

from api.serve import run
from api.settings import Settings, read
from api.users import add_user, remove_user, rotate_token
from jobcast.errors import BadSetting
from notifier.users import ROLES, BadUsersFile, load


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        settings = read(os.environ)
        if options.command == "user":
            edit(settings, options)
        else:
            logging.basicConfig(
                level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
            )
            logging.getLogger("uvicorn").setLevel(logging.WARNING)
            logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # broker.link says it, once
            run(settings)
    except BadUsersFile as error:
        return _stopped(f"JOBCAST_USERS_FILE: {error}")
    except (BadSetting, ValueError) as error:
        return _stopped(str(error))
    return 0


def edit(settings: Settings, options: argparse.Namespace) -> None:
    path = settings.users_file
    # In the shell of somebody who reports or subscribes, the URL has their own login.
    known = {user.name for user in load(path)} if path.exists() else set[str]()
    reserved = {settings.service_user} - known
    match options.action:
        case "add":
            print(add_user(path, options.name, options.role, reserved))
        case "remove":
            remove_user(path, options.name, reserved)
        case "rotate":
            print(rotate_token(path, options.name, reserved))
        case "list":
            for user in load(path, reserved):
                print(f"{user.name}  {', '.join(user.roles)}  tokens: {len(user.token_sha256)}")


def _stopped(line: str) -> int:
    print(f"jobcast api: {line}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api", description="The HTTP side of jobcast.")
    commands = parser.add_subparsers(dest="command")
    user = commands.add_parser("user", help="edit the users file")
    actions = user.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", help="add a user and print its token, once")
    add.add_argument("name")
    add.add_argument("--role", action="extend", nargs="+", choices=ROLES, required=True)
    remove = actions.add_parser("remove", help="remove a user")
    remove.add_argument("name")
    rotate = actions.add_parser("rotate", help="print a new token in place of the old ones")
    rotate.add_argument("name")
    actions.add_parser("list", help="names and roles")
    return parser


if __name__ == "__main__":
    sys.exit(main())
