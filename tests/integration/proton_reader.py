"""A client of AMQP 1.0, as JMS clients are (Qpid JMS is built on the same model): reads messages
from an address, and prints them as JSON, one a line.

Run by the system's Python, which has Debian's `python3-qpid-proton`; imports nothing of ours.
"""

import json
import sys
from typing import Any

from proton import Message
from proton.utils import BlockingConnection


def shown(message: Message) -> dict[str, Any]:
    body = message.body
    return {
        "id": message.id,
        "correlation_id": message.correlation_id,
        "subject": message.subject,
        "reply_to": message.reply_to,
        "to": message.address,
        "content_type": message.content_type,
        "creation_time": message.creation_time,
        "group_id": message.group_id,
        "durable": message.durable,
        "priority": message.priority,
        "ttl": message.ttl,
        "properties": message.properties,
        "annotations": {str(k): str(v) for k, v in (message.annotations or {}).items()},
        "body": (bytes(body) if not isinstance(body, str) else body.encode()).decode(),
        "body_type": type(body).__name__,
    }


def main(url: str, address: str, count: int) -> None:
    connection = BlockingConnection(url, timeout=10, allowed_mechs="PLAIN")
    try:
        receiver = connection.create_receiver(address, credit=count)
        for _ in range(count):
            message = receiver.receive(timeout=10)
            receiver.accept()
            sys.stdout.write(f"{json.dumps(shown(message))}\n")
    finally:
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
