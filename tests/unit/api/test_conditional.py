import pytest

from api.conditional import Wait, etag, seen_by, wait_of
from api.problems import Problem


def test_without_if_none_match_nothing_has_been_seen() -> None:
    assert seen_by([]) is None


@pytest.mark.parametrize(
    "lines",
    [['"3"'], ['W/"3"'], ['"1", W/"3" , "9"'], ['"1"', '"3"'], ["*"], [" * "]],
)
def test_a_version_is_seen_if_any_tag_names_it_weakly(lines: list[str]) -> None:
    seen = seen_by(lines)
    assert seen is not None
    assert seen(3)


@pytest.mark.parametrize("lines", [['"2"'], ["3"], ['"33"'], [""], ['W/"1", "2"']])
def test_other_tags_and_bare_numbers_do_not_name_the_version(lines: list[str]) -> None:
    seen = seen_by(lines)
    assert seen is not None
    assert not seen(3)


def test_an_etag_is_the_version_in_quotes() -> None:
    assert etag(12) == '"12"'


@pytest.mark.parametrize(
    ("query", "prefer", "expected"),
    [
        (None, [], Wait(0, None)),
        ("5", [], Wait(5, None)),
        ("0", [], Wait(0, None)),
        ("0.5", [], Wait(0.5, None)),
        ("61", [], Wait(60, None)),
        ("9" * 400, [], Wait(60, None)),
        ("5", ["wait=7"], Wait(5, None)),
        (None, ["wait=7"], Wait(7, "wait=7")),
        (None, ['respond-async, Wait = "7"; x=1'], Wait(7, "wait=7")),
        (None, ["respond-async", "wait=100"], Wait(60, "wait=60")),
        (None, ["respond-async"], Wait(0, None)),
    ],
)
def test_the_query_beats_prefer_and_sixty_is_the_most(
    query: str | None, prefer: list[str], expected: Wait
) -> None:
    assert wait_of(query, prefer) == expected


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "1e1", "0x1", "1_0", "ten", "٣"])
def test_a_wait_that_is_not_a_number_is_refused_by_name(text: str) -> None:
    with pytest.raises(Problem, match="invalid-parameter") as caught:
        wait_of(text, [])
    assert str(caught.value.detail).startswith("wait:")
    with pytest.raises(Problem) as caught:
        wait_of(None, [f"wait={text}"])
    assert str(caught.value.detail).startswith("Prefer: wait:")
