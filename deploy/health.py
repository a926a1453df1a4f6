"""Health checks of the containers: `python -m deploy.health api|notifier`; exit code 0 is healthy.

The API answers for itself. The notifier has no door: it is healthy while each state queue has a
consumer, which with single active consumers every replica can see for all.
"""

import asyncio
import os
import sys
from typing import Final

import aio_pika

from broker.topology import state_queues
from deploy.process import LOOPBACK
from deploy.stack import answers_ok
from jobcast.environment import Environment

TIMEOUT_S: Final = 5.0
PARTITIONS_MAX: Final = 1024


def api(env: Environment) -> bool:
    scheme = "https" if env.optional("JOBCAST_TLS_CERT") else "http"
    port = env.integer("JOBCAST_HTTP_PORT", 8080, low=1, high=65535)
    return answers_ok(f"{scheme}://{LOOPBACK}:{port}/healthz")


async def notifier(env: Environment) -> bool:
    url = env.text("JOBCAST_AMQP_URL", f"amqp://guest:guest@{LOOPBACK}:5672/")
    partitions = env.integer("JOBCAST_PARTITIONS", 1, low=1, high=PARTITIONS_MAX)
    async with asyncio.timeout(TIMEOUT_S), await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for name in state_queues(partitions):
            queue = await channel.declare_queue(name, passive=True)
            if not queue.declaration_result.consumer_count:
                return False
    return True


def main(part: str) -> bool:
    env = Environment(os.environ)
    return api(env) if part == "api" else asyncio.run(notifier(env))


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1]) else 1)
