"""What a batch is, whatever has arrived."""

from collections.abc import Iterator
from typing import Any, cast
from unittest.mock import Mock

import pytest

from broker import consumer
from broker.consumer import BATCH_BYTES, STEP, Batches
from jobcast.message import Incoming


class Arriving:
    """Stands for the deliveries of a connection: it notes who takes them."""

    def to(self, _: int, take: Any) -> object:
        self.take = take
        return object()


def arrived(batches: Batches, arriving: Arriving, sizes: Iterator[int]) -> None:
    for tag, size in enumerate(sizes, 1):
        arriving.take(Incoming(body=b"", tag=tag, size=size))


def opened(*, in_step: bool) -> tuple[Batches, Arriving]:
    arriving = Arriving()
    return Batches(Mock(number=1), cast("Any", arriving), in_step=in_step), arriving


async def test_a_batch_is_all_that_has_arrived() -> None:
    batches, arriving = opened(in_step=False)
    arrived(batches, arriving, iter([1] * 3 * STEP))
    assert len(await batches.take()) == 3 * STEP


async def test_a_batch_is_no_larger_than_its_bound_or_one_message() -> None:
    batches, arriving = opened(in_step=False)
    half = BATCH_BYTES // 2
    arrived(batches, arriving, iter([half, half, half, 2 * BATCH_BYTES, 1]))
    found = [[message.tag for message in await batches.take()] for _ in range(4)]
    assert found == [[1, 2], [3], [4], [5]]


async def test_queues_in_step_are_read_in_small_batches_until_they_have_been_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches, arriving = opened(in_step=True)
    arrived(batches, arriving, iter([1] * (2 * STEP + 1)))
    assert [len(await batches.take()) for _ in range(3)] == [STEP, STEP, 1]
    arrived(batches, arriving, iter([1] * (STEP + 1)))  # empty, but so soon it says nothing
    assert [len(await batches.take()) for _ in range(2)] == [STEP, 1]
    monkeypatch.setattr(consumer, "STEP_S", 0.0)
    arrived(batches, arriving, iter([1] * (STEP + 1)))
    assert [len(await batches.take()) for _ in range(2)] == [STEP, 1]
    arrived(batches, arriving, iter([1] * 2 * STEP))
    assert len(await batches.take()) == 2 * STEP
