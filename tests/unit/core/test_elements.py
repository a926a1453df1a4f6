"""Cutting an array that cannot be read as a whole."""

import pytest

from jobcast.elements import elements


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"[1]", [b"1"]),
        (b' [ {"a":[1,2]} , "b,]" ]\n', [b'{"a":[1,2]}', b'"b,]"']),
        (b'["\\"],[",NaN]', [b'"\\"],["', b"NaN"]),
        (b'["\\\\",2]', [b'"\\\\"', b"2"]),
        (b'[{"a":[}],1]', [b'{"a":[}]', b"1"]),
        (b"[\xff,\x00]", [b"\xff", b"\x00"]),
        (b"[" + b"[" * 9_999 + b"]" * 9_999 + b",1]", [b"[" * 9_999 + b"]" * 9_999, b"1"]),
    ],
    ids=range(7),
)
def test_an_array_is_cut_at_its_own_commas(text: bytes, found: list[bytes]) -> None:
    assert elements(text) == found


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[", b"]", b"[]", b"[ ]", b"[1", b"[1]]", b"[1],[2]", b"[1]x", b"[[1]", b"[1,]",
     b"[,1]", b"[1,,2]", b"[1, ,2]", b'["]', b'["a","]'],
)  # fmt: skip
def test_what_is_not_one_array_of_elements_is_not_cut(text: bytes) -> None:
    assert elements(text) == []
