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
    assert settings.cisco_finished == "not-found"


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
        ("JOBCAST_DIALECTS", "netapp,fax"),
        ("JOBCAST_WAITS_PER_USER", "0"),
        ("JOBCAST_CISCO_FINISHED", "gone"),
        ("JOBCAST_MANAGEMENT_URL", "amqp://x"),
        ("JOBCAST_AUTHORITY_PORT", "x"),
        ("JOBCAST_JWT_ISSUER", "https://issuer.example"),
        ("JOBCAST_CORS_ORIGINS", "*"),
        ("JOBCAST_CORS_ORIGINS", "null"),
        ("JOBCAST_CORS_ORIGINS", "https://a.example/"),
        ("JOBCAST_CORS_ORIGINS", "https://a.example/path"),
        ("JOBCAST_CORS_ORIGINS", "ftp://a.example"),
        ("JOBCAST_CORS_ORIGINS", "https://a.example,b.example"),
        ("JOBCAST_TLS_CERT", "/nowhere"),
        ("JOBCAST_TLS_KEY", "/nowhere"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_the_variable(name: str, value: str) -> None:
    other = {"JOBCAST_TLS_CERT": "JOBCAST_TLS_KEY", "JOBCAST_TLS_KEY": "JOBCAST_TLS_CERT"}
    more = {other[name]: __file__} if name in other else {}
    named = "JOBCAST_JWT_" if name.startswith("JOBCAST_JWT_") else name
    with pytest.raises(BadSetting, match=named) as caught:
        read({name: value} | more)
    assert "\n" not in str(caught.value)


def test_certificate_and_key_go_together() -> None:
    with pytest.raises(BadSetting, match="JOBCAST_TLS_KEY"):
        read({"JOBCAST_TLS_CERT": __file__})


def test_the_authority_speaks_tls_only_with_a_certificate() -> None:
    asked = {"JOBCAST_AUTHORITY_PORT": "0", "JOBCAST_AUTHORITY_TLS": "true"}
    with pytest.raises(BadSetting, match=r"^JOBCAST_TLS_CERT"):
        read(asked)
    certified = {"JOBCAST_TLS_CERT": __file__, "JOBCAST_TLS_KEY": __file__}
    assert read(asked | certified).authority_tls


JWT = {
    "JOBCAST_JWT_ISSUER": "https://issuer.example",
    "JOBCAST_JWT_AUDIENCE": "jobcast",
    "JOBCAST_JWT_JWKS": "https://issuer.example/keys",
}


def test_an_issuer_is_described_whole_or_not_at_all() -> None:
    settings = read(JWT)
    assert (settings.jwt_issuer, settings.jwt_audience) == ("https://issuer.example", "jobcast")
    assert settings.jwt_jwks == "https://issuer.example/keys"
    assert read({}).jwt_issuer is None
    for name in JWT:
        with pytest.raises(BadSetting, match=name):
            read({other: value for other, value in JWT.items() if other != name})


def test_origins_are_a_list_and_none_by_default() -> None:
    assert read({}).cors_origins == ()
    given = read({"JOBCAST_CORS_ORIGINS": "https://a.example, http://b.example:8080,"})
    assert given.cors_origins == ("https://a.example", "http://b.example:8080")


def test_rabbitmq_asks_on_loopback_or_with_a_secret() -> None:
    assert read({}).authority_port is None
    assert read({"JOBCAST_AUTHORITY_PORT": "0"}).authority_port == 0
    afar = {"JOBCAST_AUTHORITY_PORT": "1", "JOBCAST_AUTHORITY_HOST": "0.0.0.0"}
    with pytest.raises(BadSetting, match="JOBCAST_AUTHORITY_SECRET"):
        read(afar)
    secret = "s" * 22
    assert read(afar | {"JOBCAST_AUTHORITY_SECRET": secret}).authority_secret == secret
    for bad in ("short", "with/slash" * 4):
        with pytest.raises(BadSetting, match="JOBCAST_AUTHORITY_SECRET") as caught:
            read(afar | {"JOBCAST_AUTHORITY_SECRET": bad})
        assert bad not in str(caught.value)
