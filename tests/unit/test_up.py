"""The parts of `scripts/up` that need no process."""

from pathlib import Path

import pytest

from deploy.process import StartFailure
from deploy.settings import read_settings
from deploy.stack import ROOT, reachable
from deploy.supervision import RESTART_DELAY_MAX_S, RESTART_DELAY_S, STEADY_S, Restarts
from deploy.up import without_password
from jobcast.errors import BadSetting


class Mortal:
    name = "it"

    def __init__(self) -> None:
        self.alive = True
        self.starts = 0
        self.comes_up = True

    def start(self) -> None:
        self.starts += 1
        if not self.comes_up:
            raise StartFailure("it does not come up")
        self.alive = True


def test_the_defaults_are_those_of_the_protocol() -> None:
    settings = read_settings([], {})
    assert (settings.amqp_port, settings.redis_port, settings.http_port) == (5672, 6379, 8080)
    assert settings.http_host == "127.0.0.1"
    assert (settings.amqp_url, settings.redis_url) == (None, None)
    assert settings.data_dir == ROOT / ".jobcast"
    assert settings.users_file == ROOT / "users.toml"
    assert (settings.notifiers, settings.replicas, settings.demo) == (1, 1, False)


def test_paths_given_are_relative_to_where_one_stands() -> None:
    settings = read_settings([], {"JOBCAST_DATA_DIR": "data", "JOBCAST_USERS_FILE": "u.toml"})
    assert settings.data_dir == Path.cwd() / "data"
    assert settings.users_file == Path.cwd() / "u.toml"


@pytest.mark.parametrize("name", ["JOBCAST_AMQP_PORT", "JOBCAST_REDIS_PORT", "JOBCAST_HTTP_PORT"])
@pytest.mark.parametrize("value", ["-1", "65536", "http", "1.5"])
def test_a_bad_port_is_told_in_one_line_with_its_variable(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=f"^{name}={value}: .*0 to 65535") as caught:
        read_settings([], {name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JOBCAST_TLS_CERT", "cert.pem"),
        ("JOBCAST_TLS_KEY", "key.pem"),
        ("JOBCAST_AMQP_URL", "amqps://me:secret@host/"),
        ("JOBCAST_REDIS_URL", "rediss://:secret@host/"),
    ],
)
def test_own_tls_goes_with_nobody_elses_certificates(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=f"^{name}") as caught:
        read_settings(["--tls"], {name: value})
    assert "secret" not in str(caught.value)
    assert read_settings(["--tls"], {"JOBCAST_REDIS_URL": "redis://host/"}).own_tls


def test_passwords_are_not_shown() -> None:
    assert without_password("amqp://me:secret@host:1/v") == "amqp://me:…@host:1/v"
    assert without_password("rediss://:secret@host:1/0") == "rediss://:…@host:1/0"
    assert without_password("redis://host:1/0") == "redis://host:1/0"
    assert without_password("amqp://host/") == "amqp://host/"


def test_a_server_that_listens_everywhere_is_reached_on_loopback() -> None:
    assert reachable("0.0.0.0") == "127.0.0.1"
    assert reachable("::") == "[::1]"
    assert reachable("::1") == "[::1]"
    assert reachable("10.1.2.3") == "10.1.2.3"


def test_what_dies_is_started_again_after_a_delay(capsys: pytest.CaptureFixture[str]) -> None:
    part = Mortal()
    restarts = Restarts(part)
    part.alive = False
    restarts.look(1000)
    restarts.look(1000 + RESTART_DELAY_S / 2)
    assert part.starts == 0
    restarts.look(1000 + RESTART_DELAY_S)
    assert part.starts == 1
    assert capsys.readouterr().out == "it has died; starting it again in 0.5 s\nit is back\n"


def test_what_does_not_come_up_is_tried_again_later_each_time_up_to_a_bound() -> None:
    part = Mortal()
    restarts = Restarts(part, now=0)
    part.alive = part.comes_up = False
    delays: list[float] = []
    now = since = 1.0
    while len(delays) < 10:
        before = part.starts
        restarts.look(now)
        if part.starts > before:
            delays.append(now - since)
            since = now
        now += 0.25
    assert delays == sorted(delays)
    assert delays[-1] == pytest.approx(RESTART_DELAY_MAX_S, abs=1)


def test_a_long_life_makes_the_next_death_the_first() -> None:
    part = Mortal()
    restarts = Restarts(part, now=0)
    now = 0.0
    for life in (1, 1, 1, STEADY_S + 1):
        now += life
        part.alive = False
        restarts.look(now)
        while not part.alive:
            now += 0.25
            restarts.look(now)
    assert restarts.delay_s == 2 * RESTART_DELAY_S
