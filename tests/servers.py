"""What the machine must have for the tests that start servers and browsers of their own.

Where it is missing a test is skipped, or fails where `CI` is set: there nothing may be left out.
"""

import os

import pytest

from deploy import installed, redis


def need_rabbitmq() -> None:
    need(installed.find_server(), "rabbitmq-server")


def need_redis() -> None:
    need(redis.find_server(), "redis-server")


def need_servers() -> None:
    need_rabbitmq()
    need_redis()


def need(found: str | None, what: str) -> None:
    if found is not None:
        return
    reason = f"{what} is not installed; scripts/setup --test installs it"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
