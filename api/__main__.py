"""`python -m api` serves; `python -m api user add|remove|list|rotate` edits the users file."""

import argparse
import logging
import os
import sys

from api.serve import run
from api.settings import Settings, read
from api.users import add_user, new_keys, remove_user, rotate_token
from jobcast.errors import BadSetting
from notifier.users import ROLES, BadUsersFile, Keys, User, load


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
            # It writes URLs, and in those of RabbitMQ's management stand the ids of sessions.
            logging.getLogger("httpx").setLevel(logging.WARNING)
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
    keys = new_keys() if getattr(options, "cloudstack", False) else None
    match options.action:
        case "add":
            show(add_user(path, options.name, options.role, reserved, keys), keys)
        case "remove":
            remove_user(path, options.name, reserved)
        case "rotate":
            show(rotate_token(path, options.name, reserved, keys), keys)
        case "list":
            for user in load(path, reserved):
                print(described(user))


def show(token: str, keys: Keys | None) -> None:
    """The keys as CloudStack's clients have them in their configuration."""
    print(token)
    if keys is not None:
        print(f"key = {keys.api_key}\nsecret = {keys.secret_key}")


def described(user: User) -> str:
    told = f"{user.name}  {', '.join(user.roles)}  tokens: {len(user.token_sha256)}"
    return told if user.cloudstack is None else f"{told}  cloudstack keys"


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
    rotate = actions.add_parser(
        "rotate", help="print a new token in place of the old ones; CloudStack keys go too"
    )
    rotate.add_argument("name")
    for action in (add, rotate):
        action.add_argument(
            "--cloudstack",
            action="store_true",
            help="print new keys for clients that sign CloudStack requests as well, once",
        )
    actions.add_parser("list", help="names and roles")
    return parser


if __name__ == "__main__":
    sys.exit(main())
