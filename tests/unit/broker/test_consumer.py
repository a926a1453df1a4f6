"""What a batch is, whatever has arrived."""

from collections.abc import Iterator
from typing import Any, cast
from unittest.mock import Mock

from broker.consumer import BATCH_BYTES, Batches
from jobcast.message import Incoming


class Arriving:
    """Stands for the deliveries of a connection: it notes who takes them."""

    def to(self, _: int, take: Any) -> object:
        self.take = take
        return object()


def arrived(batches: Batches, arriving: Arriving, sizes: Iterator[int]) -> None:
    for tag, size in enumerate(sizes, 1):
        arriving.take(Incoming(body=b"", tag=tag, size=size))


def opened() -> tuple[Batches, Arriving]:
    arriving = Arriving()
    return Batches(Mock(number=1), cast("Any", arriving)), arriving


async def test_a_batch_is_all_that_has_arrived() -> None:
    batches, arriving = opened()
    arrived(batches, arriving, iter([1] * 5_000))
    assert len(await batches.take()) == 5_000


async def test_a_batch_is_no_larger_than_its_bound_or_one_message() -> None:
    batches, arriving = opened()
    half = BATCH_BYTES // 2
    arrived(batches, arriving, iter([half, half, half, 2 * BATCH_BYTES, 1]))
    found = [[message.tag for message in await batches.take()] for _ in range(4)]
    assert found == [[1, 2], [3], [4], [5]]
