"""What a list of Active IQ Unified Manager may be asked for."""

import time
from collections.abc import Sequence

import pytest
from starlette.datastructures import QueryParams

from api.dialects.netapp.search import Search, ordered, search_of
from api.problems import Problem

FACTS: dict[str, str | None] = {
    "key": "db40:-7fbd",
    "name": "Create vol1",
    "type": "volume_create",
    "state": "completed",
    "status": "partial_failures",
    "submit_time": "2026-11-21T10:00:00.000+00:00",
    "complete_time": None,
    "parent_job_key": None,
}


def asked(query: str) -> Search:
    return search_of(QueryParams(query))


@pytest.mark.parametrize(
    ("query", "belongs"),
    [
        ("key=db40:-7fbd", True),
        ("key=db40", False),
        ("name=Create vol1", True),
        ("name=create vol1", False),
        ("name=Create*", True),
        ("name=*vol*", True),
        ("name=*vol", False),
        ("name=C*vol*1", True),
        ("name=Create vol1*Create vol1", False),
        ("name=*", True),
        ("name=!Create*", False),
        ("name=!!Create*", True),
        ("name=!x", True),
        ("name=x|Create vol1", True),
        ("name=x|y", False),
        ("name=!x|!Create vol1", True),
        ("name=x|", False),
        ("name=>Create", True),
        ("name=<D", True),
        ("name=>=Create vol1", True),
        ("name=<=Create vol1", True),
        ("name=<Create vol1", False),
        ("state=COMPLETED", True),
        ("status=Partial_*", True),
        ("status=normal|warning", False),
        ("type=volume_create&state=running", False),
        ("name=Create*&name=*vol1", True),
        ("name=Create*&name=*vol2", False),
        ("submit_time=2026-11-21T10:00:00.000+00:00", True),
        ("submit_time=2026-11-21T15:30:00%2B05:30", True),
        ("submit_time=>2026-11-21T09:59:59Z", True),
        ("submit_time=>=2026-11-21T10:00:00Z&submit_time=<2026-11-21T10:00:01Z", True),
        ("submit_time=>2026-11-21T10:00:00Z", False),
        ("submit_time=2026-11-21*", True),
        ("complete_time=>2020-01-01T00:00:00Z", False),
        ("complete_time=!*", True),
        ("parent_job_key=x", False),
        ("parent_job_key=!x", True),
        ("&name=&key=&submit_time=&order_by=&offset=&max_records=", True),
        ("fields=*&return_records=true&nonsense=1&__proto__=2", True),
    ],
)
def test_conditions_hold_or_not(query: str, belongs: bool) -> None:
    assert asked(query)(FACTS) is belongs


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("offset=-1", "offset"),
        ("offset=x", "offset"),
        ("offset=99999999999", "offset"),
        ("max_records=0", "max_records"),
        ("max_records=²", "max_records"),
        ("order_by=uuid", "order_by"),
        ("order_by=name up", "order_by"),
        ("order_by=name asc desc", "order_by"),
        ("submit_time=yesterday", "submit_time"),
        ("complete_time=>", "complete_time"),
        ("name=" + "x|" * 64, "name"),
    ],
)
def test_a_bad_value_is_named(query: str, named: str) -> None:
    with pytest.raises(Problem) as raised:
        asked(query)
    assert str(raised.value.detail).startswith(f"{named}: ")


def test_the_place_in_the_list() -> None:
    assert (asked("").offset, asked("").limit) == (0, 20)
    assert (asked("offset=7&max_records=3").offset, asked("max_records=3").limit) == (7, 3)
    assert asked("max_records=10000").limit == 500


@pytest.mark.parametrize(
    ("query", "oldest_first"),
    [
        ("", False),
        ("order_by=desc", False),
        ("order_by=submit_time desc", False),
        ("order_by=asc", True),
        ("order_by=submit_time", True),
        ("order_by=name", None),
        ("order_by=submit_time,name", None),
        ("name=x", None),
    ],
)
def test_the_stores_own_order_is_known(query: str, oldest_first: bool | None) -> None:
    assert asked(query).by_creation is oldest_first


ROWS: Sequence[tuple[str, str | None]] = [("b", None), ("a", "2026-01-02T00:00:00.000+00:00")]
ROWS = [*ROWS, ("b", "2026-01-01T00:00:00.000+00:00"), ("a", None)]


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        ("name", [1, 3, 0, 2]),
        ("name desc", [0, 2, 1, 3]),
        ("NAME", None),
        ("complete_time", [2, 1, 0, 3]),
        ("complete_time DESC", [0, 3, 1, 2]),
        ("name,complete_time desc", [3, 1, 0, 2]),
        ("complete_time desc, name asc", [3, 0, 1, 2]),
        ("name,name desc,,", [1, 3, 0, 2]),
    ],
)
def test_orders(order: str, wanted: list[int] | None) -> None:
    if wanted is None:
        with pytest.raises(Problem):
            asked(f"order_by={order}")
        return
    search = asked(f"order_by={order}")
    rows = []
    for number, (name, completed) in enumerate(ROWS):
        told = FACTS | {"name": name, "complete_time": completed}
        rows.append((search.row(told), ("alice", str(number))))
    assert [int(name) for _, name in ordered(rows, search)] == wanted


def test_no_pattern_costs_more_than_its_length() -> None:
    search = asked("name=" + "*a" * 500 + "*b")
    began = time.process_time()
    for _ in range(1000):
        assert not search(FACTS | {"name": "a" * 256})
    assert time.process_time() - began < 1
    assert asked("name=" + "!" * 20_001 + "x")(FACTS)
