"""Everything on one machine, until Ctrl-C or SIGTERM: what `scripts/up` runs.

Owns: the data folder, a private RabbitMQ and Redis unless their URLs are given, jobcast's own
processes, and the users file if there is none yet.
Promises: a process that dies is started again, at most every 30 s; at the end everything that was
started is stopped within 15 s. Order of stopping: demo, notifiers and API, RabbitMQ, Redis, so that
nothing loses its servers while it finishes.
"""

import fcntl
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from deploy.certificates import Certificates, certificates_in
from deploy.demo import Demo, demonstration
from deploy.guard import Doors
from deploy.process import LOOPBACK, PortTaken, StartFailure, claim_port
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.settings import Settings, read_settings
from deploy.stack import Layout, Stack
from deploy.supervision import Part, Restarts, say
from deploy.users import create_users, describe
from jobcast.errors import BadSetting

LOOK_EVERY_S: Final = 0.25


class Stopped(BaseException):
    """A signal asks us to end."""


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        with ExitStack() as exits:
            _run(read_settings(sys.argv[1:], os.environ), exits)
    except Stopped:
        say("stopped")
        return 0
    except (BadSetting, StartFailure) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    # Once is enough: a second signal must not break off the stopping.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


def _run(settings: Settings, exits: ExitStack) -> None:
    exits.enter_context(_sole_use(settings.data_dir))
    parts: list[Part] = []
    certificates = certificates_in(settings.data_dir / "tls") if settings.own_tls else None
    with _names("JOBCAST_HTTP_PORT"):
        http_port = claim_port(settings.http_port)
    redis_url, reader_url = settings.redis_url, None
    if redis_url is None:
        redis = RedisNode(
            settings.data_dir / "redis", port=settings.redis_port, certificates=certificates
        )
        with _names("JOBCAST_REDIS_PORT"):
            redis_url = exits.enter_context(redis).url
        reader_url = redis.reader_url
        parts.append(redis)
    authority_port = claim_port(0)
    rabbitmq = None
    if settings.amqp_url is None:
        rabbitmq = _rabbitmq(settings, authority_port, certificates)
    if rabbitmq is not None:
        with _names("JOBCAST_AMQP_PORT"):
            exits.enter_context(rabbitmq)
        parts.append(rabbitmq)
    tokens = create_users(settings.users_file)
    layout = Layout(
        amqp_url=settings.amqp_url or (rabbitmq.url if rabbitmq else ""),
        redis_url=redis_url,
        redis_reader_url=reader_url,
        users_file=settings.users_file,
        folder=settings.data_dir / "log",
        notifiers=settings.notifiers,
        http_host=settings.http_host,
        http_ports=[http_port, *[0] * (settings.replicas - 1)],
        tls=settings.tls,
        certificates=certificates,
        authority_port=authority_port if rabbitmq else None,
        management_url=rabbitmq.management_url if rabbitmq else None,
    )
    stack = exits.enter_context(Stack(layout))
    demo = exits.enter_context(demonstration(layout)) if settings.demo else None
    _tell(stack, rabbitmq, tokens)
    _watch([*parts, *stack.services], demo)


def _rabbitmq(
    settings: Settings, authority_port: int, certificates: Certificates | None
) -> RabbitMQNode:
    """A node that asks our first replica who may do what."""
    with _names("JOBCAST_STOMP_PORT"):
        stomp_port = claim_port(settings.stomp_port)
    # By name: Erlang compares no address with a certificate.
    authority = f"https://localhost:{authority_port}" if certificates else None
    doors = Doors(
        authority=authority or f"http://{LOOPBACK}:{authority_port}", stomp_port=stomp_port
    )
    return RabbitMQNode(
        settings.data_dir / "rabbitmq",
        port=settings.amqp_port,
        doors=doors,
        certificates=certificates,
    )


@contextmanager
def _sole_use(folder: Path) -> Iterator[None]:
    """Two runs over one data folder would destroy it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        reason = error.strerror or "unusable"
        raise BadSetting(
            f"JOBCAST_DATA_DIR={folder}: {reason}; a writable folder is wanted"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadSetting(
                f"JOBCAST_DATA_DIR={folder}: in use by another scripts/up; another folder is wanted"
            ) from None
        yield


@contextmanager
def _names(variable: str) -> Iterator[None]:
    """A taken port is told with the variable that chose it."""
    try:
        yield
    except PortTaken as error:
        raise BadSetting(
            f"{variable}={error.port}: the port is in use; a free one is wanted, 0 takes any"
        ) from None


def _tell(stack: Stack, rabbitmq: RabbitMQNode | None, tokens: dict[str, str]) -> None:
    layout = stack.layout
    say("\njobcast is up. Ctrl-C stops it.\n")
    for url in stack.urls:
        say(f"  HTTP   {url}/")
        say(f"  SSE    {url}/v1/events")
    if rabbitmq is None:
        say(f"  AMQP   {without_password(layout.amqp_url)}")
    else:
        over_tls = layout.certificates is not None
        say(f"  AMQP   {'amqps' if over_tls else 'amqp'}://NAME:TOKEN@{LOOPBACK}:{rabbitmq.port}/")
        say(f"  STOMP  {LOOPBACK}:{rabbitmq.stomp_port}{' (TLS)' if over_tls else ''}")
    say(f"  Redis  {without_password(layout.redis_url)}")
    say(f"  logs   {layout.folder}\n")
    if layout.certificates is not None:
        say("Clients trust it by: export SSL_CERT_FILE=" + shlex.quote(str(layout.certificates.ca)))
        say("(for the SDK and the CLI; curl has --cacert, a browser has to import the file)\n")
    if not tokens:
        say(f"The users are those of {layout.users_file}; it holds no tokens, only their hashes.\n")
        return
    say(f"{describe(layout.users_file, tokens)}\n")


def without_password(url: str) -> str:
    """The URL for people to read."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    login, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login.partition(':')[0]}:…@{host}"))


def _watch(parts: list[Part], demo: Demo | None) -> None:
    watched = [Restarts(part, time.monotonic()) for part in parts]
    while True:
        time.sleep(LOOK_EVERY_S)
        for restarts in watched:
            restarts.look(time.monotonic())
        if demo is not None:
            demo.look(time.monotonic())


if __name__ == "__main__":
    sys.exit(main())
