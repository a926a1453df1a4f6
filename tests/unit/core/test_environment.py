"""Settings: what is read, and one line that names the variable for what is not."""

from pathlib import Path

import pytest

from jobcast.environment import Environment
from jobcast.errors import BadSetting


def read(value: str = "") -> Environment:
    """An environment in which `X` has this value."""
    return Environment({"X": value})


def test_what_is_empty_or_absent_is_the_default() -> None:
    for environment in (read(""), Environment({})):
        assert environment.text("X", "a") == "a"
        assert environment.optional("X") is None
        assert environment.path("X", Path("a")) == Path("a")
        assert environment.integer("X", 7, low=1, high=9) == 7
        assert environment.number("X", 0.5, low=1, high=9) == 0.5
        assert environment.flag("X", True) is True
        assert environment.names("X", ("a", "b")) == ("a", "b")
        assert environment.choice("X", ("a", "b")) == "a"
        assert environment.url("X", "amqp://h/", schemes=("amqp",)) == "amqp://h/"


def test_values_are_read() -> None:
    assert read("a b").text("X", "") == "a b"
    assert read("a").optional("X") == "a"
    assert read("/a/b").path("X", Path()) == Path("/a/b")
    assert read(" 9 ").integer("X", 7, low=1, high=9) == 9
    assert read("1.5").number("X", 7, low=1, high=9) == 1.5
    assert read(" b ").choice("X", ("a", "b")) == "b"
    assert read(" b , a,").names("X", ("a", "b", "c")) == ("b", "a")
    assert read("amqps://u:p@[::1]:5671/v").url("X", "", schemes=("amqp", "amqps")).endswith("/v")


@pytest.mark.parametrize(
    ("text", "flag"),
    [("1", True), ("true", True), ("YES", True), ("on", True), ("0", False), ("False", False),
     ("no", False), ("off", False)],
)  # fmt: skip
def test_a_flag_has_many_names(text: str, flag: bool) -> None:
    assert read(text).flag("X", not flag) is flag


@pytest.mark.parametrize("text", ["x", "1.5", "0", "10", "-1", "9" * 30, "0x5", "nan", "1 2"])
def test_an_integer_out_of_bounds_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match=f"^X={text}: an integer from 1 to 9 is wanted$"):
        read(text).integer("X", 7, low=1, high=9)


@pytest.mark.parametrize("text", ["x", "0.99", "9.01", "nan", "inf", "-inf", "1e400", "1,5"])
def test_a_number_out_of_bounds_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match=f"^X={text}: a number from 1 to 9 is wanted$"):
        read(text).number("X", 7, low=1, high=9)


@pytest.mark.parametrize("text", ["c", "A", "a,b"])
def test_a_choice_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match=f"^X={text}: a or b is wanted$"):
        read(text).choice("X", ("a", "b"))


@pytest.mark.parametrize("text", ["maybe", "2", "truee"])
def test_a_flag_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match=f"^X={text}: true or false is wanted$"):
        read(text).flag("X", True)


def test_a_choice_may_be_of_nothing() -> None:
    assert read("none").names("X", ("a", "b")) == ()
    assert read("").names("X", ("a", "b")) == ("a", "b")


def test_a_choice_of_something_else_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"^X=a,z: a comma-separated choice of a, b or none is"):
        read("a,z").names("X", ("a", "b"))


@pytest.mark.parametrize(
    "text",
    ["http://h/", "amqp://", "amqp:///v", "amqp://u:secret@:5672/", "amqp://u:secret@h:port/",
     "amqp://u:secret@h:99999/", "amqp://u:secret@[::1/", "secret", "//h"],
)  # fmt: skip
def test_a_url_that_is_none_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(
        BadSetting, match=r"^X=.*…: a URL with a host and amqp is wanted$"
    ) as raised:
        read(text).url("X", "", schemes=("amqp",))
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)
