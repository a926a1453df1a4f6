import pytest

from api.session import seal, sealed_by, user_of
from api.users import digest

OLD, NEW = digest("old"), digest("new")
COOKIE = seal("a.b@c", OLD, 1_000)


def test_a_cookie_is_good_until_it_expires() -> None:
    assert sealed_by(COOKIE, [NEW, OLD], 999.9) == OLD
    assert sealed_by(COOKIE, [OLD], 1_000) is None
    assert user_of(COOKIE) == "a.b@c"


def test_rotating_the_token_ends_its_sessions() -> None:
    assert sealed_by(COOKIE, [NEW], 0) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "..",
        "1000",
        COOKIE.replace("1000.", "1001."),
        COOKIE.replace("a.b@c", "a.b"),
        COOKIE[:-6] + "x.b@c",
        COOKIE.replace("1000.", "٣."),
        "9" * 5_000 + COOKIE[4:],
        "1001..a.b@c",
        "1001.ü.a.b@c",
    ],
)
def test_a_cookie_that_was_tampered_with_is_nothing(value: str) -> None:
    assert sealed_by(value, [OLD, NEW], 0) is None
