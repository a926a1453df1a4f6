"""`jobcast dead` as an operator types it, on a real broker."""

import asyncio
import os
import pty
import signal
import subprocess

import msgspec
import pytest

from deploy.guard import SERVICE
from deploy.rabbitmq import NODE, RabbitMQNode
from jobcast.message import Message
from jobcast.names import DEAD
from tests.chaos.link import Link
from tests.eventually import eventually
from tests.integration.dead_letters import (
    STATE,
    dead,
    declared,
    deep_headers,
    letters,
    names,
    put,
    seen,
    started,
)
from tests.integration.rabbit import bodies, depth


@pytest.fixture
async def url(spare_rabbitmq: RabbitMQNode) -> str:
    return await declared(spare_rabbitmq.url)


async def test_an_empty_queue_is_said_to_be_empty(url: str) -> None:
    for args in (("list",), ("retry", "--all"), ("drop", "--all", "--yes")):
        ended = await dead(url, *args)
        assert (ended.code, ended.out, ended.err) == (0, "no dead letters\n", "")
    ended = await dead(url, "list", "--json")
    assert (ended.code, ended.out, ended.err) == (0, "", "no dead letters\n")


async def test_letters_are_listed_oldest_first_by_reason_and_up_to_a_limit(url: str) -> None:
    await put(url, letters(["a1", "a2"], "not-json"))
    await put(url, letters(["b1", "b2"], "poison"))
    table = await dead(url, "list")
    assert [line.split()[:2] for line in table.out.splitlines()[1:-1]] == [
        ["a1", "not-json"],
        ["a2", "not-json"],
        ["b1", "poison"],
        ["b2", "poison"],
    ]
    assert table.out.endswith("\n4 shown of 4\n")
    some = await dead(url, "list", "--reason", "poison", "--limit", "1")
    assert "b1" in some.out
    assert some.out.endswith("\n1 shown of 2 (4 in all)\n")
    lines = await dead(url, "list", "--json", "--limit", "3")
    rows = [msgspec.json.decode(line) for line in lines.out.splitlines()]
    assert [row["id"] for row in rows] == ["a1", "a2", "b1"]
    assert (rows[0]["detail"], rows[0]["size"]) == ("event: said", 2)
    assert lines.err == "3 shown of 4\n"


async def test_a_letter_is_shown_whole_by_the_beginning_of_its_id(url: str) -> None:
    await put(url, letters(["a1", "b1", "b2", "b1"]))
    shown = await dead(url, "show", "a")
    assert shown.out.splitlines()[:3] == ["id: a1", "reason: not-json", "detail: event: said"]
    assert shown.out.endswith("\nbody (2 bytes):\na1\n")
    twice = await dead(url, "show", "b1")
    assert twice.err == "jobcast: 2 letters have this id; this is the first\n"
    for id, words in (("b", "more than one id: b1 and b2"), ("c", "no dead letter has an id")):
        ended = await dead(url, "show", id)
        assert (ended.code, ended.out) == (1, "")
        assert words in ended.err


HOSTILE = bytes(range(256)) + "\x1b]0;owned\x07\u202e".encode()


async def test_a_hostile_letter_reaches_no_terminal_but_its_bytes_can_be_had(url: str) -> None:
    evil = "\x1b]0;owned\x07\x9b31m\u202e[bold]"
    letter = Message(
        exchange="",
        routing_key=DEAD,
        body=HOSTILE,
        message_id=evil,
        content_type=evil,
        correlation_id=evil,
        app_id=evil,
        headers={"x-jobcast-reason": evil, "x-jobcast-detail": evil, evil: evil},
    )
    await put(url, [letter])
    for args in (("list",), ("list", "--json"), ("show", "\\")):
        ended = await dead(url, *args)
        assert ended.code == 0
        assert "owned" in ended.out
        assert all(line.isprintable() for line in ended.out.splitlines())
    assert (await dead(url, "show", "--raw", "\\")).raw == HOSTILE
    assert (await dead(url, "drop", "\\x1b]0;owned\\x07\\x9b31m\\u202e[bold]")).out == "1 dropped\n"


async def test_a_listing_on_a_terminal_is_no_more_than_colours_and_text(url: str) -> None:
    await put(url, letters(["\x1b]0;owned\x07"]))
    reader, writer = pty.openpty()
    with os.fdopen(reader, "rb", buffering=0) as terminal:
        async with started(url, "list", stdout=writer) as process:
            os.close(writer)
            await process.wait()
        seen = terminal.read(65_536)
    assert b"\\x1b]0;owned\\x07" in seen
    assert b"\x1b]" not in seen
    assert b"\x07" not in seen


async def test_ids_are_all_known_before_anything_is_done(url: str) -> None:
    await put(url, letters(["a1", "b1", "b2", "a1"]))
    for command in ("retry", "drop"):
        for wrong in ("c", "b"):
            ended = await dead(url, command, "a1", wrong)
            assert (ended.code, ended.out) == (1, "")
    assert await seen(url) == ["a1", "b1", "b2", "a1"]
    assert (await dead(url, "drop", "a", "b2")).out == "3 dropped\n"
    assert await seen(url) == ["b1"]


async def test_letters_are_sent_again_by_reason(url: str) -> None:
    await put(url, letters(["a1"], "not-json"))
    await put(url, letters(["b1", "b2"], "poison"))
    ended = await dead(url, "retry", "--all", "--reason", "poison")
    assert (ended.code, ended.out, ended.err) == (0, "2 sent again\n", "")
    assert await seen(url) == ["a1"]
    assert await bodies(url, STATE) == [b"b1", b"b2"]


async def test_what_cannot_be_sent_again_as_it_came_stays_and_is_told(url: str) -> None:
    await put(url, letters(["a1"]))
    await deep_headers(url, "", DEAD)
    ended = await dead(url, "retry", "--all")
    assert (ended.code, ended.out) == (1, "1 sent again\n")
    assert "cannot be read" in ended.err
    assert await depth(url, DEAD) == 1


async def test_dropping_everything_without_a_terminal_needs_a_word(url: str) -> None:
    await put(url, letters(["a1"]))
    refused = await dead(url, "drop", "--all")
    assert (refused.code, refused.out) == (2, "")
    assert "--yes" in refused.err
    assert await seen(url) == ["a1"]
    assert (await dead(url, "drop", "--all", "--yes")).out == "1 dropped\n"


@pytest.mark.parametrize(("answer", "left"), [(b"n\n", ["a1"]), (b"y\n", [])])
async def test_dropping_everything_on_a_terminal_asks(
    url: str, answer: bytes, left: list[str]
) -> None:
    await put(url, letters(["a1"]))
    keyboard, terminal = pty.openpty()
    os.write(keyboard, answer)
    async with started(url, "drop", "--all", stdin=terminal) as process:
        _, err = await process.communicate()
    os.close(terminal)
    os.close(keyboard)
    assert b"drop every dead letter?" in err
    assert await seen(url) == left


async def test_a_retry_that_is_interrupted_says_how_far_it_came_and_loses_nothing(
    url: str, spare_rabbitmq: RabbitMQNode
) -> None:
    ids = names(2_000)
    await put(url, letters(ids))
    async with Link("amqp", spare_rabbitmq.port) as link:
        link.delay_s = 0.05  # so that there is time to interrupt it
        async with started(spare_rabbitmq.url_at(link.port), "retry", "--all") as process:
            await eventually(lambda: depth(url, STATE))
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert b"sent again, then it was interrupted" in err
    left = await seen(url)
    sent = {body.decode() for body in await bodies(url, STATE)}
    assert 0 < len(sent) < len(ids)
    assert left == sorted(left)
    assert sent | set(left) == set(ids)


async def test_without_the_queue_or_the_right_to_it_one_line_says_so(
    spare_rabbitmq: RabbitMQNode,
) -> None:
    url = spare_rabbitmq.url
    missing = await dead(url, "list")
    assert (missing.code, missing.out, missing.err.count("\n")) == (1, "", 1)
    assert "no queue 'jobcast.dead'" in missing.err
    await declared(url)
    await put(url, letters(["a1"]))
    wrong = await dead(spare_rabbitmq.url_of(SERVICE, "sesame"), "list")
    assert (wrong.code, wrong.out, wrong.err.count("\n")) == (1, "", 1)
    assert "sesame" not in wrong.err
    await asyncio.to_thread(add_users, spare_rabbitmq)
    for user, args in (("nobody", ("list",)), ("reader", ("retry", "--all"))):
        ended = await dead(spare_rabbitmq.url_of(user, "sesame"), *args)
        assert (ended.code, ended.out) == (1, "")
        assert "ACCESS_REFUSED" in ended.err
    assert await seen(url) == ["a1"]


def add_users(node: RabbitMQNode) -> None:
    """`nobody` may connect and no more; `reader` may read as well."""
    rights = {"nobody": "", "reader": ".*"}
    calls = [
        f'rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"sesame">>, <<"test">>), '
        f"rabbit_auth_backend_internal:set_permissions("
        f'<<"{user}">>, <<"/">>, <<"">>, <<"">>, <<"{read}">>, <<"test">>)'
        for user, read in rights.items()
    ]
    control = "/usr/lib/rabbitmq/bin/rabbitmqctl"
    env = node._write_files() | {"RABBITMQ_LOG_BASE": str(node.folder / "log")}
    subprocess.run(
        [control, "-n", NODE, "eval", ", ".join(calls) + "."],
        env=env,
        check=True,
        capture_output=True,
    )
