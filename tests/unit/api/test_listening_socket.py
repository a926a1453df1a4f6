"""What a connection inherits from the listening socket."""

import socket
from contextlib import closing
from functools import partial

from api.serve import UNSENT_BYTES, bound
from api.settings import read

PIECE = bytes(16 * 1024)


def test_the_kernel_takes_little_of_a_stream_that_nobody_reads() -> None:
    """Without a bound of ours it takes megabytes, for each of hundreds of stuck readers."""
    settings = read({"JOBCAST_HTTP_PORT": "0"})
    with closing(bound(settings)) as listener, socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        stuck.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(0.5)
            sent = sum(iter(partial(_sent, accepted), 0))
    assert 0 < sent <= 3 * UNSENT_BYTES


def _sent(connection: socket.socket) -> int:
    try:
        return connection.send(PIECE)
    except TimeoutError:
        return 0
