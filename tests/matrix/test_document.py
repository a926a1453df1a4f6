"""docs/policy.toml speaks of all that there is, and docs/security.md shows it."""

import re
from pathlib import Path
from typing import Final

from broker.topology import topology
from tests.matrix.policy import Row, each, read
from tests.matrix.scene import BUS
from tests.matrix.table import SECURITY, redrawn, tables

ROUTE: Final = re.compile(r'Route\("([^"]+)"')
API: Final = Path(__file__).parents[2] / "api"


def test_the_tables_of_the_document_are_drawn_from_the_data_file() -> None:
    text, policy = SECURITY.read_text(), read()
    assert tables(policy) in text
    assert redrawn(text, policy) == text


def test_every_route_of_the_service_is_in_the_table() -> None:
    sources = "".join(path.read_text() for path in API.rglob("*.py"))
    served = {path.replace("{id}", "{job}") for path in ROUTE.findall(sources)}
    asked = {row.request.partition(" ")[2].partition("?")[0] for row in read().http}
    assert len(served) >= 9
    assert served <= asked


def test_every_exchange_is_tried_in_every_way() -> None:
    rows = read().amqp
    for exchange in topology(1, BUS).exchanges:
        for do in ("bind", "publish", "delete exchange", "bind exchange"):
            tried = {name for row in rows if row.do == do for name in each(row.exchange)}
            assert exchange.name in tried, (do, exchange.name)


def test_every_row_has_an_answer_for_each_role() -> None:
    policy = read()
    rows: list[Row] = [*policy.http, *policy.amqp, *policy.stomp]
    assert all(row.subscriber and row.executor and row.admin for row in rows)
    assert all(row.nobody for row in policy.http)
    names = [(type(row), row.name) for row in [*policy.http, *policy.amqp, *policy.stomp]]
    assert len(names) == len(set(names))


def test_foreign_and_unknown_are_answered_alike_to_all_but_admins() -> None:
    policy = read()
    told = 0
    for row in [*policy.http, *policy.amqp, *policy.stomp]:
        if getattr(row, "do", "") == "declare passively":
            continue  # docs/security.md says why
        for who in ("nobody", "subscriber", "subscriber_with_owner", "executor", "ticket"):
            assert row.answer(who, "foreign") == row.answer(who, "unknown"), (row, who)
            told += 1
    assert told > 100
