from pathlib import Path

import pytest

from api.settings import read
from jobcast.errors import BadSetting


def test_the_defaults_are_those_of_the_protocol() -> None:
    settings = read({})
    assert settings.amqp_url == "amqp://guest:guest@127.0.0.1:5672/"
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8080)
    assert settings.users_file == Path("users.toml")
    assert settings.requests_per_s == 100
    assert (settings.streams_per_user, settings.streams_max) == (5000, 10000)
    assert settings.partitions == 1
    assert settings.service_user == "guest"


def test_the_services_own_user_is_that_of_the_amqp_url() -> None:
    assert read({"JOBCAST_AMQP_URL": "amqps://job%40cast:x@h/"}).service_user == "job@cast"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JOBCAST_HTTP_PORT", "x"),
        ("JOBCAST_HTTP_PORT", "65536"),
        ("JOBCAST_REDIS_URL", "http://x"),
        ("JOBCAST_AMQP_URL", "rabbit"),
        ("JOBCAST_REQUESTS_PER_S", "0"),
        ("JOBCAST_REQUESTS_PER_S", "nan"),
        ("JOBCAST_STREAMS_PER_USER", "0"),
        ("JOBCAST_STREAMS_MAX", "many"),
        ("JOBCAST_PARTITIONS", "0"),
        ("JOBCAST_TLS_CERT", "/nowhere"),
        ("JOBCAST_TLS_KEY", "/nowhere"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_the_variable(name: str, value: str) -> None:
    other = {"JOBCAST_TLS_CERT": "JOBCAST_TLS_KEY", "JOBCAST_TLS_KEY": "JOBCAST_TLS_CERT"}
    more = {other[name]: __file__} if name in other else {}
    with pytest.raises(BadSetting, match=name) as caught:
        read({name: value} | more)
    assert "\n" not in str(caught.value)


def test_certificate_and_key_go_together() -> None:
    with pytest.raises(BadSetting, match="JOBCAST_TLS_KEY"):
        read({"JOBCAST_TLS_CERT": __file__})
