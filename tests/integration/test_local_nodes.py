"""The private servers, by themselves: tidy, durable, and never orphaned."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aio_pika
import aiormq
import httpx
import pytest
import redis as redis_client

from deploy import rabbitmq as node_module
from deploy.guard import SERVICE, Doors
from deploy.process import LOOPBACK, Command, Keeper, PortTaken, StartFailure, free_port
from deploy.rabbitmq import MESSAGE_BYTES_MAX, RabbitMQNode
from deploy.redis import RedisNode
from tests.eventually import eventually
from tests.integration.rabbit import written
from tests.servers import need_servers

PARENT = """
import sys, time
from pathlib import Path
from deploy.redis import RedisNode
node = RedisNode(Path(sys.argv[1]))
node.start()
print(*node.pids, flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _servers() -> None:
    need_servers()


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def none_runs(*pids: int) -> Callable[[], bool]:
    return lambda: not any(runs(pid) for pid in pids)


async def test_a_durable_queue_survives_kill_and_restart_and_stop_leaves_no_process(
    tmp_path: Path,
) -> None:
    node = RabbitMQNode(tmp_path / "a folder with spaces")
    with node:
        first = node.pids
        assert len(first) == 2, "the node and its epmd"
        async with await aio_pika.connect(node.url) as connection:
            channel = await connection.channel()
            await channel.declare_queue("kept", durable=True)
            message = aio_pika.Message(b"hello", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, routing_key="kept")
            url = node.url
            await written(node, "kept", quorum=False)
            node.kill()
        assert not node.alive
        node.start()
        assert node.url == url, "clients reconnect to the address they know"
        async with await aio_pika.connect(node.url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("kept", durable=True, passive=True)
            message_back = await queue.get()
            await message_back.ack()
            assert message_back.body == b"hello"
        everything = {*first, *node.pids}
    await eventually(none_runs(*everything), 5)


async def test_the_node_takes_messages_of_1_mib_and_no_more(rabbitmq: RabbitMQNode) -> None:
    async with await aio_pika.connect(rabbitmq.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        largest = aio_pika.Message(bytes(MESSAGE_BYTES_MAX))
        await channel.default_exchange.publish(largest, routing_key=queue.name)
        too_large = aio_pika.Message(bytes(MESSAGE_BYTES_MAX + 1))
        with pytest.raises(aio_pika.exceptions.AMQPError):
            await channel.default_exchange.publish(too_large, routing_key=queue.name)


async def test_the_node_has_the_consistent_hash_exchange(rabbitmq: RabbitMQNode) -> None:
    async with await aio_pika.connect(rabbitmq.url) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange("hash-probe", "x-consistent-hash")
        assert isinstance(await exchange.delete(), aiormq.spec.Exchange.DeleteOk)


async def test_a_paused_node_keeps_connections_and_answers_again(rabbitmq: RabbitMQNode) -> None:
    async with await aio_pika.connect(rabbitmq.url) as connection:
        rabbitmq.pause()
        try:
            opening = asyncio.ensure_future(connection.channel().initialize())
            done, _ = await asyncio.wait([opening], timeout=0.3)
            assert not done
        finally:
            rabbitmq.resume()
        await asyncio.wait_for(opening, 5)


def test_the_node_listens_on_loopback_only(rabbitmq: RabbitMQNode, redis_server: RedisNode) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; only finds our outward address
        except OSError:
            pytest.skip("this machine has no outward address")
        outward = str(probe.getsockname()[0])
    if outward.startswith("127."):
        pytest.skip("this machine has no outward address")
    for port in (rabbitmq.port, redis_server.port):
        with pytest.raises(OSError, match=r".*"):
            socket.create_connection((outward, port), timeout=1)


def test_an_answered_write_survives_the_death_of_redis(tmp_path: Path) -> None:
    with RedisNode(tmp_path / "a folder with spaces") as node:
        pids = node.pids
        with redis_client.Redis.from_url(node.url) as client:
            client.set("kept", "yes")
        node.kill()
        assert not node.alive
        node.start()
        pids += node.pids
        with redis_client.Redis.from_url(node.url, decode_responses=True) as client:
            assert client.get("kept") == "yes"
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendfsync") == {"appendfsync": "always"}
    assert none_runs(*pids)()


async def test_the_death_of_the_parent_ends_the_server(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "redis")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert pids
        assert all(runs(pid) for pid in pids)
        parent.send_signal(signal.SIGKILL)
    await eventually(none_runs(*pids), 15)


def test_a_taken_port_is_named(redis_server: RedisNode, tmp_path: Path) -> None:
    with pytest.raises(PortTaken, match=str(redis_server.port)):
        RedisNode(tmp_path, port=redis_server.port).start()


def test_a_process_that_does_not_come_up_is_explained_with_its_log(tmp_path: Path) -> None:
    keeper = Keeper()
    try:
        args = ["/bin/sh", "-c", "echo no such luck; exit 3"]
        child = keeper.spawn(Command(name="it", args=args, log=tmp_path / "it.log"))
        with pytest.raises(StartFailure, match=r"it ended with exit code 3(.|\n)*no such luck"):
            child.wait_until(lambda: False, 5)
    finally:
        keeper.close()


def test_a_child_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    keeper = Keeper()
    args = ["/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"]
    log = tmp_path / "stubborn.log"
    child = keeper.spawn(Command(name="stubborn", args=args, log=log))
    child.wait_until(lambda: log.read_text() == "up\n", 5)
    began = time.monotonic()
    child.stop(0.3)
    assert not child.alive
    assert time.monotonic() - began < 3
    keeper.close()


def test_free_ports_can_be_bound() -> None:
    with socket.socket() as server:
        port = free_port()
        server.bind((LOOPBACK, port))
        assert server.getsockname() == (LOOPBACK, port)


async def test_a_data_folder_from_before_loses_its_guest(tmp_path: Path) -> None:
    guest = {"password": "guest", "tags": "administrator"}
    doors = Doors(authority=f"http://{LOOPBACK}:{free_port()}")
    with RabbitMQNode(tmp_path, doors=doors) as node:
        async with httpx.AsyncClient(base_url=node.management_url, auth=node.login) as management:
            made = await management.put("/api/users/guest", json=guest)
            assert made.status_code == 201
            node.restart()
            users = (await management.get("/api/users")).json()
    assert [user["name"] for user in users] == [SERVICE]


def test_a_node_whose_own_ports_are_taken_meanwhile_takes_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        ports = iter([free_port(), taken.getsockname()[1]])  # epmd's, and the one between nodes
        monkeypatch.setattr(node_module, "free_port", lambda: next(ports, None) or free_port())
        with RabbitMQNode(tmp_path / "rabbitmq", port=free_port()) as node:
            assert node.alive
        assert next(ports, None) is None
