"""Where RabbitMQ and Erlang are installed on this machine. Starts nothing."""

import os
import shutil
from pathlib import Path
from typing import Final

from deploy.process import StartFailure

# The wrapper that Debian and Fedora put into /usr/sbin insists on the system's user; the real
# script behind it does not.
SERVERS: Final = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
)
ERLANG: Final = ("/opt/homebrew/opt/erlang/bin", "/usr/local/opt/erlang/bin", "/usr/lib/erlang/bin")


def find_server() -> str | None:
    """The rabbitmq-server script that any user may run."""
    for path in SERVERS:
        if os.access(path, os.X_OK):
            return path
    for found in Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"):
        return str(found)
    return shutil.which("rabbitmq-server")


def find_epmd() -> str:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *ERLANG])
    if found := shutil.which("epmd", path=path):
        return found
    if erl := shutil.which("erl", path=path):
        for near in Path(erl).resolve().parents[1].glob("**/erts-*/bin/epmd"):
            return str(near)
    raise StartFailure("epmd, a part of Erlang, is not on the PATH")
