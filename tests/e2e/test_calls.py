"""docs/calls.md: every call of the protocol stands there, and answers as the page says."""

import re
import sys
from pathlib import Path
from typing import Final

import pytest

from deploy.rabbitmq import RabbitMQNode
from deploy.stack import ROOT, Stack
from tests.e2e.test_readme import block, run
from tests.logins import Logins

CALLS: Final = (ROOT / "docs" / "calls.md").read_text()
PROTOCOL: Final = (ROOT / "docs" / "protocol.md").read_text()
WANTED: Final = re.compile(r"^# (\d{3})$", re.MULTILINE)
STATUS: Final = re.compile(r"^(\d{3})$", re.MULTILINE)
LATER: Final = {("GET", "/openapi.json"), ("GET", "/asyncapi.json"), ("GET", "/")}
"""Not served yet."""


@pytest.fixture
def environment(stack: Stack, rabbitmq: RabbitMQNode, logins: Logins) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "JOBCAST_URL": stack.urls[0],
        "AMQP_PORT": str(rabbitmq.port),
        "ALICE_TOKEN": logins.alice.token,
        "EXECUTOR_TOKEN": logins.executor.token,
        "ADMIN_TOKEN": logins.admin.token,
    }


def shell() -> str:
    blocks = re.findall(r"^```sh\n(.*?)^```", CALLS, re.DOTALL | re.MULTILINE)
    return "".join(blocks)


@pytest.mark.timeout(90)
async def test_every_call_answers_as_the_page_says(
    environment: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "calls.sh"
    script.write_text(shell())
    printed = await run(environment, "bash", "-euo", "pipefail", str(script))
    assert STATUS.findall(printed) == WANTED.findall(shell()), printed
    question = block("python", "job.query", CALLS)
    answered = await run(environment, sys.executable, "-c", question)
    assert answered.startswith("job.status ")
    assert '"id":"tour-2"' in answered


def test_no_call_of_the_protocol_is_missing() -> None:
    section = PROTOCOL.partition("\n## 7. HTTP")[2].partition("\n## 8.")[0]
    calls = set()
    for cell in re.findall(r"^\| (.*?) \|", section, re.MULTILINE):
        method = ""
        for word in re.findall(r"`([^`]*)`", cell):
            verb, _, path = word.rpartition(" ")
            method = verb or method
            if path.startswith("/"):
                calls.add((method, path.partition("?")[0]))
    assert len(calls) >= 20
    assert {call for call in calls - LATER if not shows(*call)} == set()


def shows(method: str, path: str) -> bool:
    """Whether an example makes this call: `curl` GETs without a body, POSTs with one."""
    form = re.escape(path).replace(r"\{id\}", r"[^/\"?]+")
    for line in re.split(r"\n(?=\S)", shell().replace("\\\n", " ")):
        said = re.search(rf'\$JOBCAST_URL{form}(\?[^"]*)?"', line)
        given = re.search(r"-X ([A-Z]+)", line)
        made = given[1] if given else "POST" if " -d " in line else "GET"
        if said and made == method:
            return True
    return False
