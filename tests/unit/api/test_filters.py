from typing import Any

import pytest
from starlette.datastructures import QueryParams

from api.filters import Filters, filters_of, limit_of
from api.problems import Problem
from jobcast.job import Job, Status


def job(**fields: Any) -> Job:
    base: dict[str, Any] = {
        "id": "j",
        "owner": "alice",
        "status": Status.RUNNING,
        "created_at": "2026-11-21T10:00:00.000Z",
        "updated_at": "2026-11-21T10:00:00.000Z",
    }
    return Job(**(base | fields))


def parse(text: str) -> Filters:
    return filters_of(QueryParams(text))


@pytest.mark.parametrize(
    "query",
    [
        "",
        "status=running",
        "status=queued&status=running",
        "operation=job&status=running",
        "group=g&group=nightly",
        "label.site=b&label.site=a",
        "label.site=a&label.tier=1",
        "job=j&job=k",
        "created_after=2026-11-21T09:59:59Z&created_before=2026-11-21T10:00:01Z",
        "created_after=2026-11-21T10:59:59+01:00",
        "created_after=2026-11-21T10:59:59%2B01:00",
        "something=else",
    ],
)
def test_values_of_one_name_are_alternatives_and_names_add_up(query: str) -> None:
    assert parse(query)(job(group="nightly", labels={"site": "a", "tier": "1"}))


def test_there_is_no_index_of_the_empty_group() -> None:
    assert parse("group=").index == "jobs"
    assert parse("group=g").index == "group:g"


@pytest.mark.parametrize(
    "query",
    [
        "status=queued",
        "outcome=error",
        "operation=backup&status=running",
        "group=other",
        "label.site=c",
        "label.other=a",
        "job=k",
        "created_after=2026-11-21T10:00:00Z",
        "created_before=2026-11-21T10:00:00Z",
    ],
)
def test_a_job_that_misses_one_name_does_not_belong(query: str) -> None:
    assert not parse(query)(job(group="nightly", labels={"site": "a"}))


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("status=done", "status"),
        ("status=running&status=", "status"),
        ("outcome=bad", "outcome"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2026-11-21", "created_after"),
        ("created_before=2026-11-21T10:00:00", "created_before"),
        ("created_before=2026-13-21T10:00:00Z", "created_before"),
        ("created_before=0001-01-01T00:00:00%2B23:59", "created_before"),
    ],
)
def test_a_bad_value_is_refused_by_name(query: str, name: str) -> None:
    if query.startswith("created_before=0001"):
        assert not parse(query)(job())  # long ago, but a date
        return
    with pytest.raises(Problem) as caught:
        parse(query)
    assert str(caught.value.detail).startswith(f"{name}:")


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("", "jobs"),
        ("status=running&status=queued", "live"),
        ("status=running&status=failed", "jobs"),
        ("group=a", "group:a"),
        ("group=a&group=b", "jobs"),
        ("group=a&status=running", "group:a"),
    ],
)
def test_the_shortest_index_that_holds_them_all_is_read(query: str, index: str) -> None:
    assert parse(query).index == index


def test_no_filter_is_told_from_some() -> None:
    assert parse("limit=3&page=x").every
    assert not parse("label.a=").every


@pytest.mark.parametrize("text", ["1", "50", "500"])
def test_a_limit_may_be_one_to_five_hundred(text: str) -> None:
    assert limit_of(QueryParams({"limit": text})) == int(text)


@pytest.mark.parametrize("text", ["0", "501", "-1", "", "x", "1.5", "9" * 50])
def test_any_other_limit_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="limit"):
        limit_of(QueryParams({"limit": text}))


@pytest.mark.parametrize(
    ("query", "begin"),
    [
        ("", None),
        ("created_after=2026-11-21T10:00:00Z", None),
        ("created_before=1970-01-01T00:00:01.500Z", "0000000001500:-"),
        ("created_before=1970-01-01T00:00:01.500001Z", "0000000001501:-"),
        ("created_before=1969-01-01T00:00:00Z", "0000000000000:-"),
        ("created_before=9999-01-01T00:00:00Z", "9999999999999:-"),
    ],
)
def test_a_list_begins_behind_what_is_too_new(query: str, begin: str | None) -> None:
    assert parse(query).begin == begin
