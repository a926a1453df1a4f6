"""A durable subscriber over AMQP: a queue of its own, plain aio-pika, manual acknowledgement.

The queue has a single active consumer. Without it RabbitMQ itself would disturb the order: while a
dead connection still holds messages, the next consumer is given those after them.
"""

import asyncio
from typing import Final

import aio_pika
import msgspec
from aio_pika.abc import AbstractIncomingMessage

from tests.chaos.record import Delivery, JobKey, told

HEARTBEAT_S: Final = 10
CONNECT_S: Final = 10.0
PREFETCH: Final = 100
RETRY_S: Final = 0.5


class _Body(msgspec.Struct):
    id: str
    data: msgspec.Raw


_BODY: Final = msgspec.json.Decoder(_Body)


class Subscriber:
    """Notes every delivery of one owner. `ready` is set once the queue is bound."""

    def __init__(self, url: str, owner: str, *, quorum: bool) -> None:
        self._url = f"{url}?heartbeat={HEARTBEAT_S}"
        self.owner = owner
        self._arguments: dict[str, object] = {"x-single-active-consumer": True}
        if quorum:
            self._arguments["x-queue-type"] = "quorum"
        self.deliveries: list[Delivery] = []
        self.ended: set[JobKey] = set()
        self.ready = asyncio.Event()
        self.connections = 0
        self.odd: list[str] = []

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self._serve()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise  # else aiormq has only given its connection up
            except Exception as error:  # noqa: BLE001,RUF100 - whatever broke: again
                self.odd.append(type(error).__name__)
            await asyncio.sleep(RETRY_S)

    async def _serve(self) -> None:
        async with asyncio.timeout(CONNECT_S):
            connection = await aio_pika.connect(self._url)
        try:
            async with asyncio.timeout(CONNECT_S):
                channel = await connection.channel()
                await channel.set_qos(prefetch_count=PREFETCH)
                queue = await channel.declare_queue(
                    f"sub.{self.owner}.ledger.all",
                    durable=True,
                    arguments=self._arguments,  # type: ignore[arg-type] # aio-pika's own is narrow
                )
                await queue.bind("job.events", f"{self.owner}.#")
                await queue.consume(self._take)
            self.connections += 1
            self.ready.set()
            await channel.closed()
        finally:
            async with asyncio.timeout(CONNECT_S):
                await connection.close()

    async def _take(self, message: AbstractIncomingMessage) -> None:
        body = _BODY.decode(message.body)
        one = told(str(message.headers["event"]), bytes(body.data))
        self.deliveries.append(Delivery(str(message.message_id), one))
        if one.ended:
            self.ended.add(one.key)
        await message.ack()
