"""What a subscription is bound to, and what is refused before anything is sent."""

from datetime import UTC, datetime

import pytest

from jobcast.client import Client
from jobcast.filters import EVENTS, Interest, interest
from jobcast.job import ANNOUNCED, Job, Status
from jobcast.notification import Notification


def test_nothing_chosen_is_everything_of_the_owner() -> None:
    assert interest("a.b", None, None, None).keys == ["a%2Eb.*.*.*"]
    assert interest("*", None, None, None).keys == ["*.*.*.*"]


def test_several_values_are_all_their_combinations() -> None:
    wanted = interest("a", ["x", "y.z"], ["failed", "succeeded"], "j")
    assert wanted.keys == [
        "a.x.failed.j",
        "a.x.succeeded.j",
        "a.y%2Ez.failed.j",
        "a.y%2Ez.succeeded.j",
    ]
    assert interest("a", ["x", "x"], None, None).keys == ["a.x.*.*"]


def test_there_are_no_more_than_a_hundred() -> None:
    jobs = [f"j{number}" for number in range(50)]
    assert len(interest("a", None, ["failed", "succeeded"], jobs).keys) == 100
    with pytest.raises(ValueError, match="100"):
        interest("a", ["x", "y"], ["failed", "succeeded"], jobs)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("owner", ("", None, None, None)),
        ("owner", ("a/b", None, None, None)),
        ("owner", (["a", "*"], None, None, None)),
        ("operation", ("a", "*", None, None)),
        ("operation", ("a", "x" * 65, None, None)),
        ("event", ("a", None, "running", None)),
        ("event", ("a", None, ["failed", "#"], None)),
        ("job", ("a", None, None, "")),
        ("job", ("a", None, None, "x" * 101)),
    ],
)
def test_a_value_that_can_never_match_is_refused(
    name: str, given: tuple[str, str | None, str | None, str | None]
) -> None:
    with pytest.raises(ValueError, match=f"^{name}"):
        interest(*given)


def test_every_event_that_is_announced_may_be_chosen() -> None:
    assert set(EVENTS) == {*ANNOUNCED.values(), "progressed"}


def test_what_matches_is_what_the_keys_let_through() -> None:
    job = Job(id="j", owner="a", operation="x", status=Status.FAILED, created_at="", updated_at="")
    told = Notification("a/j/1", "failed", job, datetime.now(UTC))
    assert Interest().matches(told)
    assert Interest(("a", "b"), ("x",), ("failed",), ("j",)).matches(told)
    assert not Interest(owners=("b",)).matches(told)
    assert not Interest(operations=("y",)).matches(told)
    assert not Interest(events=("succeeded",)).matches(told)
    assert not Interest(jobs=("k",)).matches(told)


@pytest.mark.parametrize("url", ["http://alice@host/", "amqp://host/", "amqp://", "alice"])
def test_an_amqp_url_has_a_user(url: str) -> None:
    with pytest.raises(ValueError, match="amqp_url"):
        Client("http://host", amqp_url=url)


async def test_a_name_that_is_too_long_is_refused_before_anything_is_sent() -> None:
    async with Client("http://host", amqp_url="amqp://a:b@host/", client_id="c") as client:
        with pytest.raises(ValueError, match="255"):
            client.subscribe("x" * 255)
        with pytest.raises(ValueError, match="name"):
            client.subscribe("")
        with pytest.raises(ValueError, match="event"):
            client.subscribe("x", event="ended")
    async with Client("http://host") as client:
        with pytest.raises(ValueError, match="amqp_url"):
            client.subscribe("x")
