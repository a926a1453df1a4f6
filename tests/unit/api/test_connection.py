"""What is kept of answers that nobody reads."""

from collections.abc import Sequence
from typing import cast

from api.connection import UNSENT_MAX, Connection, relieve


class Client:
    """A connection and its transport, with so many bytes unsent."""

    def __init__(self, unsent: int) -> None:
        self.transport = self
        self.unsent = unsent
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True


def connections(clients: Sequence[Client]) -> list[Connection]:
    return [cast("Connection", client) for client in clients]


def test_who_reads_nothing_is_cut_from_the_largest_on_until_there_is_room() -> None:
    small, reading, large, larger = clients = [Client(UNSENT_MAX // part) for part in (64, 2, 4, 3)]
    before = relieve(connections(clients), {})
    assert not any(client.aborted for client in clients), "nobody knows yet who reads"
    reading.unsent -= 1
    relieve(connections(clients), before)
    assert [client.aborted for client in (small, reading, large, larger)] == [False] * 3 + [True]


def test_while_there_is_room_nobody_is_cut() -> None:
    clients = [Client(UNSENT_MAX // 2), Client(UNSENT_MAX // 2), Client(0)]
    before = relieve(connections(clients), {})
    assert list(before.values()) == [UNSENT_MAX // 2] * 2
    relieve(connections(clients), before)
    assert not any(client.aborted for client in clients)
