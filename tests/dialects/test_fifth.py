"""docs/dialects.md says how a fifth dialect is added: its example, as it stands there, at work."""

import ast
import re
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import httpx
import pytest

from api import dialects
from api.app import build, opened
from api.settings import read
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import ROOT, Stack
from jobcast.reporter import Reporter
from tests.eventually import eventually
from tests.logins import Login, Logins

SECTION = (ROOT / "docs" / "dialects.md").read_text().partition("## A fifth dialect\n")[2]


def block(word: str) -> str:
    """The one Python block with a word."""
    blocks = re.findall(r"^```python\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE)
    (found,) = [text for text in blocks if word in text]
    return str(found)


@pytest.fixture
async def printer(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    session_stack: Stack,
    rabbitmq: RabbitMQNode,
    redis_server: RedisNode,
) -> AsyncIterator[httpx.AsyncClient]:
    """The API with the one file and the one line, and no other dialect."""
    (tmp_path / "printer.py").write_text(block("def routes"))
    table = dict(dialects.DIALECTS) | ast.literal_eval(f"{{{block('api.dialects.printer')}}}")
    monkeypatch.setattr(dialects, "__path__", [*dialects.__path__, str(tmp_path)])
    for module in (dialects, sys.modules["api.settings"]):
        monkeypatch.setattr(module, "DIALECTS", table)
    monkeypatch.setitem(sys.modules, "api.dialects.printer", None)
    del sys.modules["api.dialects.printer"]  # what the test imports goes with it
    settings = read(
        {
            "JOBCAST_AMQP_URL": rabbitmq.url,
            "JOBCAST_REDIS_URL": redis_server.reader_url,
            "JOBCAST_USERS_FILE": str(session_stack.layout.users_file),
            "JOBCAST_DIALECTS": "printer",
        }
    )
    async with opened(settings) as parts:
        transport = httpx.ASGITransport(build(parts))
        async with httpx.AsyncClient(transport=transport, base_url="http://printer") as client:
            yield client


def test_the_example_is_short() -> None:
    assert len(block("def routes").splitlines()) <= 40
    assert len(block("api.dialects.printer").splitlines()) == 1


async def test_the_example_answers_in_its_own_words(
    printer: httpx.AsyncClient, rabbitmq: RabbitMQNode, subscriber: Login, logins: Logins
) -> None:
    headers = {"X-Printer-Login": " ".join(subscriber)}

    async def state(job: str) -> str | None:
        answer = await printer.get(f"/printer/jobs/{job}", headers=headers)
        return str(answer.json()["state"]) if answer.status_code == 200 else None

    amqp_url = rabbitmq.url_of(*logins.executor)
    async with Reporter(amqp_url, owner=subscriber.name) as reporter:
        await reporter.queued("1")
        await eventually(lambda: state("1"))
        assert await state("1") == "SPOOLED"
        async with reporter.job("2", owner="somebody-else"), reporter.job("1"):
            await eventually(lambda: _is(state("1"), "PRINTING"))
    await eventually(lambda: _is(state("1"), "DONE"))
    told = [await printer.get(f"/printer/jobs/{job}", headers=headers) for job in ("2", "3", "a b")]
    for answer in told:
        assert (answer.status_code, answer.text) == (
            404,
            "PRINTER ERROR 404: There is no such job\n",
        )


async def _is(state: Awaitable[str | None], wanted: str) -> bool:
    return await state == wanted


async def test_who_is_not_known_is_refused_in_its_words(printer: httpx.AsyncClient) -> None:
    for headers in ({}, {"X-Printer-Login": "alice wrong"}):
        answer = await printer.get("/printer/jobs/1", headers=headers)
        assert answer.status_code == 401
        assert answer.text == "PRINTER ERROR 401: A valid credential is wanted\n"
        assert answer.headers["www-authenticate"] == "Printer"
    assert (await printer.get("/api/v2/management-server/jobs")).status_code == 404
