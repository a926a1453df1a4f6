import pytest

from api import seal
from api.session import PURPOSE, cookie, is_issued, issued, issued_cookie
from api.ticket import PURPOSE as TICKET
from notifier.users import digest

OLD, NEW = digest("old"), digest("new")
COOKIE = cookie("a.b@c", OLD, 1_000)


def good(value: str, key: str = OLD, now: float = 0, purpose: bytes = PURPOSE) -> bool:
    found = seal.opened(value, now)
    return found is not None and found.made_with(bytes.fromhex(key), purpose)


def test_a_cookie_is_good_until_it_expires() -> None:
    assert good(COOKIE, now=999.9)
    assert not good(COOKIE, now=1_000)
    found = seal.opened(COOKIE, 0)
    assert found is not None
    assert found.payload == "a.b@c"
    assert not is_issued(found)


def test_a_cookie_is_good_with_its_token_and_for_its_purpose_alone() -> None:
    assert not good(COOKIE, key=NEW)
    assert not good(COOKIE, purpose=TICKET)


@pytest.mark.parametrize("roles", [(), ("subscriber",), ("subscriber", "admin")])
def test_the_cookie_of_an_issuers_user_tells_the_roles(roles: tuple[str, ...]) -> None:
    found = seal.opened(issued_cookie("a.b@c", roles, b"key", 1_000), 0)
    assert found is not None
    assert is_issued(found)
    assert issued(found) == ("a.b@c", roles)
    assert not good(issued_cookie("a.b@c", roles, bytes.fromhex(OLD), 1_000))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "..",
        "1000",
        COOKIE.replace("1000.", "1001."),
        COOKIE.replace("a.b@c", "a.b"),
        COOKIE.replace("a.b@c", "admin!a.b@c"),
        COOKIE[:-6] + "x.b@c",
        COOKIE.replace("1000.", "٣."),
        "9" * 5_000 + COOKIE[4:],
        "1001..a.b@c",
        "1001.ü.a.b@c",
        "1001.x.\ud800",
    ],
)
def test_a_cookie_that_was_tampered_with_is_nothing(value: str) -> None:
    assert not good(value)
