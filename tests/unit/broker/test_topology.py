"""Which brokers keep the partition of a job."""

import pytest

from broker.topology import keeps_ring


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
