"""How RabbitMQ is told to ask our API who may do what, and what it holds itself: one account.

The same lines stand in docker-compose.yml.
"""

import base64
import json
import ssl
import urllib.error
import urllib.request
from typing import Final

import msgspec

from deploy.certificates import Certificates
from deploy.process import LOOPBACK

GUARD_PLUGINS: Final = (
    "rabbitmq_auth_backend_http",
    "rabbitmq_auth_backend_cache",
    "rabbitmq_management",
    "rabbitmq_stomp",
)
SERVICE: Final = "jobcast"
"""The service's own account, the only one that RabbitMQ holds itself."""
ANSWER_S: Final = 5.0
NOT_FOUND: Final = 404
QUESTIONS: Final = ("user", "vhost", "resource", "topic")

CACHE_MS: Final = 5_000
"""For so long RabbitMQ believes an answer."""


class Doors(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has beside AMQP when it asks an authority who may do what.

    `authority` is a URL; the paths /user, /vhost, /resource and /topic are below it. Port 0: any.
    """

    authority: str
    stomp_port: int = 0
    management_port: int = 0
    cache_ms: int = CACHE_MS


def listening(port: int, certificates: Certificates | None) -> list[str]:
    """The lines of rabbitmq.conf for AMQP: in the clear, or over TLS and in no other way."""
    if certificates is None:
        return [f"listeners.tcp.1 = {LOOPBACK}:{port}"]
    return [
        "listeners.tcp = none",
        f"listeners.ssl.1 = {LOOPBACK}:{port}",
        *_own_files("ssl_options", certificates),
        "ssl_options.verify = verify_none",  # clients have tokens, and no certificates
        "ssl_options.fail_if_no_peer_cert = false",
    ]


def _own_files(prefix: str, certificates: Certificates) -> list[str]:
    return [
        f"{prefix}.cacertfile = {certificates.ca}",
        f"{prefix}.certfile = {certificates.cert}",
        f"{prefix}.keyfile = {certificates.key}",
    ]


def trusting(certificates: Certificates | None) -> str:
    """advanced.config: whom to believe when asking over TLS. RabbitMQ 3.10 has no word for it in
    rabbitmq.conf; newer ones read this too."""
    if certificates is None:
        return "[].\n"
    ca = json.dumps(str(certificates.ca), ensure_ascii=False)  # an Erlang string, too
    return (
        "[{rabbitmq_auth_backend_http, [{ssl_options, ["
        f"{{cacertfile, {ca}}}, {{verify, verify_peer}}, {{depth, 1}}]}}]}}].\n"
    )


def asking(doors: Doors, certificates: Certificates | None) -> list[str]:
    """The lines of rabbitmq.conf by which a node asks who may do what and lists connections."""
    if certificates is None:
        stomp = [f"stomp.listeners.tcp.1 = {LOOPBACK}:{doors.stomp_port}"]
        management = [
            f"management.tcp.ip = {LOOPBACK}",
            f"management.tcp.port = {doors.management_port}",
        ]
    else:
        stomp = [
            "stomp.listeners.tcp = none",
            f"stomp.listeners.ssl.1 = {LOOPBACK}:{doors.stomp_port}",
        ]
        management = [
            f"management.ssl.ip = {LOOPBACK}",
            f"management.ssl.port = {doors.management_port}",
            *_own_files("management.ssl", certificates),
        ]
    return [
        # The service's own account first, so that the API can always connect.
        "auth_backends.1 = internal",
        "auth_backends.2 = cache",
        "auth_cache.cached_backend = http",
        f"auth_cache.cache_ttl = {doors.cache_ms}",
        "auth_http.http_method = post",
        "auth_http.connection_timeout = 2000",
        "auth_http.request_timeout = 5000",
        *(f"auth_http.{question}_path = {doors.authority}/{question}" for question in QUESTIONS),
        *stomp,
        *management,
        # Nobody reads RabbitMQ's own statistics: the list of connections does without.
        "management_agent.disable_metrics_collector = true",
    ]


def definitions(password: str) -> str:
    """What a node holds from its first start, as JSON: no guest, but the service's own account."""
    every = {"configure": ".*", "write": ".*", "read": ".*"}
    return json.dumps(
        {
            "users": [{"name": SERVICE, "password": password, "tags": "administrator"}],
            "vhosts": [{"name": "/"}],
            "permissions": [{"user": SERVICE, "vhost": "/", **every}],
        }
    )


def drop_guest(
    management_url: str, login: tuple[str, str], tls: ssl.SSLContext | None = None
) -> bool:
    """Takes away the account that RabbitMQ makes in a data folder of its own accord: one from
    before it asked us has it still. False while the management does not answer."""
    basic = base64.b64encode(":".join(login).encode()).decode()
    request = urllib.request.Request(  # noqa: S310 - our own node's URL
        f"{management_url}/api/users/guest",
        method="DELETE",
        headers={"Authorization": f"Basic {basic}"},
    )
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls)
    )
    try:
        opener.open(request, timeout=ANSWER_S).close()
    except urllib.error.HTTPError as error:
        return error.code == NOT_FOUND
    except OSError:
        return False
    return True
