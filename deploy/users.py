"""The first users, so that the first run needs no preparation: `python -m deploy.users`."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from api.users import add_user
from jobcast.environment import Environment

USERS: Final = {"admin": "admin", "executor": "executor", "alice": "subscriber"}


def create_users(users_file: Path) -> dict[str, str]:
    """The tokens of the users made; empty if there is a users file already."""
    if users_file.exists():
        return {}
    return {name: add_user(users_file, name, [role]) for name, role in USERS.items()}


def describe(users_file: Path, tokens: Mapping[str, str]) -> str:
    lines = [f"Users made in {users_file}; their tokens are shown only now:", ""]
    lines += [f"  {name:<9} {token}   ({USERS[name]})" for name, token in tokens.items()]
    return "\n".join(lines)


def main() -> None:
    users_file = Environment(os.environ).path("JOBCAST_USERS_FILE", Path("users.toml"))
    if tokens := create_users(users_file):
        sys.stdout.write(f"{describe(users_file, tokens)}\n")


if __name__ == "__main__":
    main()
