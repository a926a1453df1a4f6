"""RabbitMQ as `zhmcclient` hears it, over STOMP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import httpx
import zhmcclient
from stomp.exception import StompException

from broker.notices import TOPICS, job_topic
from deploy.process import LOOPBACK
from deploy.rabbitmq import RabbitMQNode
from deploy.stack import Stack
from tests.dialects.hmc.world import World
from tests.logins import Login

TRIES: Final = 5
HEARTBEAT: Final = zhmcclient.StompRetryTimeoutConfig(
    heartbeat_send_cycle=1, heartbeat_receive_cycle=1, connect_retries=3
)


class BrokerWorld(World):
    """With a RabbitMQ that speaks STOMP, over TLS too."""

    def __init__(self, stack: Stack, rabbitmq: RabbitMQNode) -> None:
        super().__init__(stack)
        self.rabbitmq = rabbitmq

    def bound(self, owner: Login) -> bool:
        """Whether somebody listens to the owner's job topic."""
        with httpx.Client(verify=self.certificates.context(), auth=self.rabbitmq.login) as http:
            url = f"{self.rabbitmq.management_url}/api/exchanges/%2F/{TOPICS}/bindings/source"
            return job_topic(owner.name) in {one["routing_key"] for one in http.get(url).json()}

    def receiver(self, topics: str, userid: str, password: str) -> zhmcclient.NotificationReceiver:
        return zhmcclient.NotificationReceiver(
            topics,
            LOOPBACK,
            userid,
            password,
            port=self.rabbitmq.stomp_port,
            verify_cert=str(self.certificates.ca),
            stomp_rt_config=HEARTBEAT,
        )


class Heard:
    """What a receiver hears, in a thread of its own."""

    def __init__(self, receiver: zhmcclient.NotificationReceiver) -> None:
        self.notices: list[tuple[dict[str, str], object]] = []
        self.error: Exception | None = None
        self._receiver = receiver
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        """As its documentation has it: a lost connection is made again, all else is for good.

        It loses one in twenty by itself, before it has subscribed: stomp.py reads and writes one
        TLS socket at the same time, and then hears of an end that nobody has sent.
        """
        for _ in range(TRIES):
            try:
                for notice in self._receiver.notifications():
                    self.notices.append(notice)
                return
            except zhmcclient.NotificationConnectionError as error:
                last: Exception = error
                if self._stopped:
                    break
            except Exception as error:  # noqa: BLE001,RUF100 - looked at by the test
                last = error
                break
        self.error = last

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        if not self.over:  # it looks at that after some seconds, which need not be waited for
            with suppress(StompException):
                self._receiver.close()


@contextmanager
def hearing(receiver: zhmcclient.NotificationReceiver) -> Iterator[Heard]:
    heard = Heard(receiver)
    heard.start()
    try:
        yield heard
    finally:
        heard.stop()
