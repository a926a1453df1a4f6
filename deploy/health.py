"""Health checks of the containers: `python -m deploy.health api|notifier`; exit code 0 is healthy.

The API answers for itself. The notifier has no door: it is healthy while each state queue has a
consumer, which with single active consumers every replica can see for all.
"""

import asyncio
import os
import ssl
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from yarl import URL

from broker.errors import BrokerUnavailable
from broker.link import connected, opened
from broker.topology import state_queues
from deploy.process import LOOPBACK
from jobcast.environment import Environment

TIMEOUT_S: Final = 5.0
PARTITIONS_MAX: Final = 1024


def api(env: Environment) -> bool:
    scheme = "https" if env.optional("JOBCAST_TLS_CERT") else "http"
    port = env.integer("JOBCAST_HTTP_PORT", 8080, low=1, high=65535)
    return answers_ok(f"{scheme}://{LOOPBACK}:{port}/healthz")


async def notifier(env: Environment) -> bool:
    url = URL(env.text("JOBCAST_AMQP_URL", f"amqp://guest:guest@{LOOPBACK}:5672/"))
    partitions = env.integer("JOBCAST_PARTITIONS", 1, low=1, high=PARTITIONS_MAX)
    if url.scheme == "amqps" and (trusted := env.optional("SSL_CERT_FILE")):
        url = url.update_query(cafile=trusted)  # it may not be in this process's environment
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            connected(str(url), "jobcast health") as connection,
            opened(connection, confirms=False) as channel,
        ):
            queues = [
                await channel.queue_declare(name, passive=True) for name in state_queues(partitions)
            ]
    except (BrokerUnavailable, TimeoutError):
        return False
    return all(queue.consumer_count for queue in queues)


def consumes(env: Environment) -> bool:
    """As `notifier`, from wherever it is asked: the caller may be in an event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, notifier(env)).result()


def answers_ok(url: str) -> bool:
    """Whether a GET is answered 200."""
    # We ask whether our own process is up, not who it is: its certificate may name another host.
    # And a proxy from the environment must not come between us.
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if url.startswith("https:"):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
        handlers.append(urllib.request.HTTPSHandler(context=tls))
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(url, timeout=2) as answer:
            return int(answer.status) == 200  # noqa: PLR2004 - OK
    except (urllib.error.URLError, OSError):
        return False


def main(part: str) -> bool:
    env = Environment(os.environ)
    return api(env) if part == "api" else asyncio.run(notifier(env))


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1]) else 1)
