"""How long to wait between tries, and who a URL is."""

import asyncio

import pytest

from broker.errors import BrokerUnavailable
from broker.link import DELAY_MAX_S, DELAY_MIN_S, delay_after, keep, user_of


@pytest.mark.parametrize("failures", [0, 1, 3, 10, 10_000])
def test_the_delay_is_jittered_below_a_doubling_bound(failures: int) -> None:
    bound = min(DELAY_MAX_S, DELAY_MIN_S * 2.0 ** min(failures, 100))
    delays = [delay_after(failures) for _ in range(300)]
    assert all(0 <= delay <= bound for delay in delays)
    assert max(delays) > bound / 2 > min(delays)


def test_the_user_of_a_url_is_its_login_or_guest() -> None:
    assert user_of("amqps://service:s%40x@host/vhost") == "service"
    assert user_of("amqp://host/") == "guest"


async def test_what_is_kept_is_run_again_after_a_failure_and_not_after_its_end() -> None:
    runs = 0

    async def body() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise BrokerUnavailable("not yet")

    await asyncio.wait_for(keep("test", body), 5)
    assert runs == 3


async def test_what_is_no_matter_of_the_broker_is_not_tried_again() -> None:
    async def body() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await keep("test", body)
