"""The order of the bindings, and which brokers keep the partition of a job."""

import pytest

from broker.topology import PARTITIONS, keeps_ring, state_queues, topology


def test_queues_are_bound_in_the_order_in_which_rabbitmq_recovers_them() -> None:
    bound = [one.destination for one in topology(12).bindings if one.source == PARTITIONS]
    assert bound == sorted(state_queues(12))
    assert bound != list(state_queues(12))


@pytest.mark.parametrize(
    ("version", "certain"),
    [
        ("3.10.8", False),
        ("4.2.1", False),
        ("4.3.0-rc.1", True),
        ("5", True),
        ("10.0.1", True),
        ("", False),
    ],
)
def test_only_of_newer_brokers_it_is_certain(version: str, certain: bool) -> None:
    assert keeps_ring(version) is certain
