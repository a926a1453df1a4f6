from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobcast.output import LINE_MAX, Output


def read(*chunks: bytes) -> Output:
    output = Output()
    for chunk in chunks:
        output.feed(chunk)
    output.finish()
    return output


@pytest.mark.parametrize(
    ("text", "percent"),
    [
        (b"40%", 40),
        (b"Progress: [ 45%]\n", 45),
        (b"done 12.5 %, 3 left\n", 12.5),
        (b"12,5 % kopiert", 12.5),
        (b"10%\r20%\r30%", 30),
        (b"\r 7%|###      | 7/100", 7),
        (b"10%\x08\x08\x0820%\x08\x08\x08", 20),
        (b"\x1b[2K\x1b[32m 66%\x1b[0m [====>   ]", 66),
        (b"\x1b]0;title 99%\x07 5%", 5),
        (b"  1,234,567  45%   1.2MB/s    0:00:01", 45),
        (b"coverage 80% ... [ 45%]\n", 45),
        (b"100.00%", 100),
        (b"cpu 250%", None),
        (b"1000%", None),
        (b"GET /a%20b 100%20c", None),
        (b"printf 5%d", None),
        (b"50% and then\nnothing more\n", 50),
        (b"\xff\xfe 30%", 30),
        (b"no number %", None),
    ],
)
def test_the_last_percentage_counts(text: bytes, percent: float | None) -> None:
    assert read(text).percent == percent


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"one\ntwo\n\n  \n", "two"),
        (b"one\r\ntwo", "two"),
        (b"\x1b[1mbold\x1b[0m\n", "bold"),
        (b"10%\r100%\r\n", "100%"),
        (b"\xc3\xa4 \xff\n", "ä \ufffd"),
        (b"", None),
        (b"\n\r\n", None),
    ],
)
def test_the_last_line_that_is_not_empty_is_the_message(text: bytes, message: str | None) -> None:
    assert read(text).message == message


def test_a_percentage_is_seen_before_its_line_is_finished_the_message_not() -> None:
    output = Output()
    assert output.feed(b"started\n 40%")
    assert (output.percent, output.message) == (40, "started")
    assert output.finish()
    assert output.message == "40%"


def test_nothing_new_is_no_change() -> None:
    output = Output()
    assert output.feed(b"40%\n")
    assert not output.feed(b"\n")
    assert not output.feed(b"40%\n")


def test_a_line_without_end_does_not_pile_up() -> None:
    output = Output()
    for _ in range(100):
        output.feed(b"x" * LINE_MAX)
    output.feed(b" 12%")
    assert output.percent == 12
    output.finish()
    assert len(output.message or "") <= LINE_MAX


@example([b"5", b"%", b"x"], [2])
@given(
    st.lists(st.sampled_from([b"1", b"5", b"0", b"%", b" ", b"\r", b"\n", b"x", b".", b"\x1b[0m"])),
    st.lists(st.integers(0, 40), max_size=8),
)
def test_the_outcome_does_not_depend_on_how_the_output_is_cut(
    parts: list[bytes], places: list[int]
) -> None:
    text = b"".join(parts)
    edges = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    whole, cut = read(text), read(*pieces)
    assert (cut.percent, cut.message) == (whole.percent, whole.message)
