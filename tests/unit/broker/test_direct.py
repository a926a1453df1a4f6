"""Which names of direct reply-to are looked at further."""

import base64

import pytest

from broker.direct import node_of

KEY = "ZPtrrvoDm65lLuzVD8yC+w=="
WRITTEN = b"\x83Xv\x00\x0ereply@29080932\x00\x00\x02\xbb\x00\x00\x00\x00k\x01^\x1a"
"""By RabbitMQ 3.10.8."""


def named(process: bytes, key: str = KEY) -> str:
    return f"amq.rabbitmq.reply-to.{base64.b64encode(process).decode()}.{key}"


def test_what_rabbitmq_writes_has_a_node() -> None:
    assert node_of(named(WRITTEN)) == b"reply@29080932"
    assert node_of(named(WRITTEN.replace(b"v\x00", b"w"))) == b"reply@29080932"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "amq.rabbitmq.reply-to",
        "amq.rabbitmq.reply-to.",
        "amq.rabbitmq.reply-to.x",
        "amq.rabbitmq.reply-to.garbage.x",
        f"amq.rabbitmq.reply-to..{KEY}",
        f"amq.rabbitmq.reply-to.ÄÖ.{KEY}",
        f"amq.rabbitmq.reply-to.****.{KEY}",
        named(WRITTEN, key=""),
        named(WRITTEN, key="x"),
        named(WRITTEN, key=f"{KEY}.x"),
        named(WRITTEN).removeprefix("amq."),
        named(b""),
        named(WRITTEN[:-1]),
        named(WRITTEN + b"x"),
        named(WRITTEN.replace(b"reply", b"other")),
        named(WRITTEN.replace(b"\x0ereply@2", b"\x0ereply@0")),
        named(WRITTEN.replace(b"\x0e", b"\x0d")),
        named(WRITTEN.replace(b"\x0ereply@29080932", b"\x13reply@1234567890123")),
        named(b"\x83P" + WRITTEN[2:]),
        named(b"\x83d\x00\x03abc"),
    ],
)
def test_all_else_has_none(name: str) -> None:
    assert node_of(name) is None
