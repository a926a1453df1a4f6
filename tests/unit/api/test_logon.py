import time
from pathlib import Path

import pytest

from api.bearer import Claims
from api.identity import Identity, by_token
from api.issuer import Issuer
from api.logon import SESSION_S, STEP_S, Logon, Logons, is_session_id, logged_on
from api.seal import seal
from api.secret import CannotTell
from api.users import remove_user, rotate_token
from jobcast.names import is_owner
from notifier.users import digest
from tests.unit.api.door import Alice, FixedSecret, credentials

NOW = 1_700_000_000.0


class Door:
    """alice, her sessions, and a replica that knows them."""

    def __init__(self, path: Path) -> None:
        self.alice = Alice(path)
        self.logons = Logons(self.alice.by, limit=3)

    def logged_on(self, now: float = NOW) -> Logon:
        who = by_token(self.alice.token, self.alice.by, now)
        assert who is not None
        return logged_on(who, self.alice.by.secret, now)

    def who(self, session_id: str, now: float = NOW) -> Identity:
        found = self.logons.identity(session_id, now)
        assert found is not None
        return found


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path / "users.toml")


def test_a_session_is_its_user_for_twelve_hours(door: Door) -> None:
    session_id, credential = door.logged_on()
    who = door.who(session_id)
    assert (who.user, list(who.roles), who.by) == (door.alice.name, ["subscriber"], "session")
    assert door.logons.listener(session_id, credential, NOW) == who
    door.who(session_id, NOW + SESSION_S - 1)
    assert door.logons.identity(session_id, NOW + SESSION_S) is None
    assert door.logons.listener(session_id, credential, NOW + SESSION_S) is None


def test_two_sessions_of_one_moment_are_two(door: Door) -> None:
    first, second = door.logged_on(), door.logged_on()
    assert first.session_id != second.session_id
    assert door.logons.listener(first.session_id, second.credential, NOW) is None


def test_neither_half_stands_for_the_other(door: Door) -> None:
    session_id, credential = door.logged_on()
    assert door.logons.identity(credential, NOW) is None
    for name, password in (
        (session_id, session_id),
        (credential, credential),
        (credential, session_id),
        (session_id, ""),
        (session_id, door.alice.token),
    ):
        assert door.logons.listener(name, password, NOW) is None


def test_a_session_ends_with_the_token_that_opened_it(door: Door) -> None:
    session_id = door.logged_on().session_id
    rotate_token(door.alice.path, door.alice.name)
    assert door.logons.identity(session_id, NOW) is None
    remove_user(door.alice.path, door.alice.name)
    assert door.logons.identity(session_id, NOW) is None


def test_a_session_that_was_logged_off_is_over_and_no_other(door: Door) -> None:
    left, kept = door.logged_on(), door.logged_on()
    door.logons.end(door.who(left.session_id), NOW)
    assert door.logons.identity(left.session_id, NOW) is None
    assert door.logons.listener(*left, NOW) is None
    assert door.logons.identity(kept.session_id, NOW) is not None


def test_what_is_remembered_is_bounded_and_forgets_to_the_safe_side(door: Door) -> None:
    early, late = door.logged_on(NOW - 60), door.logged_on(NOW + 60)
    for _ in range(4):  # one more than are remembered
        door.logons.end(door.who(door.logged_on().session_id), NOW)
    assert door.logons.identity(early.session_id, NOW) is None
    assert door.logons.identity(late.session_id, NOW) is not None


def test_what_has_expired_is_forgotten_first(door: Door) -> None:
    early, now = door.logged_on(NOW - 60), NOW + SESSION_S
    for _ in range(3):
        door.logons.end(door.who(door.logged_on(NOW - 120).session_id), NOW)
    door.logons.end(door.who(door.logged_on(now).session_id, now), now)
    assert door.logons.identity(early.session_id, NOW) is not None


def test_no_users_name_is_a_session_id(door: Door) -> None:
    session_id, credential = door.logged_on()
    for name in (session_id, credential):
        assert is_session_id(name)
        assert not is_owner(name)
    for name in ("alice", "a.b.c", "1.b.c!", "x.y.z!z", "", "1700000000.x", "²." + "m.u!n"):
        assert is_session_id(name) == (name == "1.b.c!"), name
    assert not is_owner("1.b.c!")


def test_a_nonce_of_any_length_is_not_taken(door: Door) -> None:
    key = bytes.fromhex(digest(door.alice.token))
    for nonce, good in (("n" * 16, True), ("n" * 17, False)):
        value = seal(f"{door.alice.name}!{nonce}", key, b"jobcast logon session 1", int(NOW) + 60)
        assert (door.logons.identity(value, NOW) is not None) == good


class Word(Issuer):
    """An issuer, whose users have logged on before."""

    def __init__(self) -> None:
        pass

    def claims(self, token: str, now: float) -> Claims | None:
        return None


def test_an_issuers_user_has_a_session_no_longer_than_the_jwt(tmp_path: Path) -> None:
    by = credentials(tmp_path / "users.toml", Word())
    carol = Identity("carol", ("subscriber",), "jwt", "", NOW + 60)
    session_id, credential = logged_on(carol, by.secret, NOW)
    who = Logons(by).listener(session_id, credential, NOW + 59)
    assert who is not None
    assert (who.user, who.roles, who.expires_at) == ("carol", ("subscriber",), NOW + 60)
    assert Logons(by).identity(session_id, NOW + 60) is None
    assert Logons(by).identity(session_id.replace("subscriber", "admin"), NOW) is None
    without = credentials(tmp_path / "users.toml")
    assert Logons(without).identity(session_id, NOW) is None


def test_without_the_services_key_nobody_is_taken_for_a_forger(tmp_path: Path) -> None:
    by = credentials(tmp_path / "users.toml", Word())
    carol = Identity("carol", ("subscriber",), "jwt", "", NOW + 60)
    session_id = logged_on(carol, by.secret, NOW).session_id
    object.__setattr__(by.secret, "_value", FixedSecret(None)._value)
    logons = Logons(by)
    with pytest.raises(CannotTell):
        logons.identity(session_id, NOW)
    assert logons.void([session_id], NOW) == []


def test_who_has_logged_in_is_looked_at_when_the_session_is_over(door: Door) -> None:
    logons, login = door.logons, door.logged_on()
    assert not logons.due(NOW + SESSION_S + 60)  # nobody has logged in
    assert logons.listener(*login, NOW) is not None
    assert not logons.due(NOW + SESSION_S - 1)
    over = NOW + SESSION_S + STEP_S
    assert logons.due(over)
    assert logons.void([login.session_id, "alice"], over) == [login.session_id]
    logons.looked(over)
    assert not logons.due(over)
    assert logons.due(over + 10)  # for whom RabbitMQ's cache has let in
    logons.looked(over + 10)
    assert not logons.due(time.time() * 2)


def test_a_logoff_is_followed_by_a_look_that_others_outlive(door: Door) -> None:
    logons, left, kept = door.logons, door.logged_on(), door.logged_on()
    door.logons.end(door.who(left.session_id), NOW)
    assert not logons.due(NOW + 60)  # nobody is connected
    for login in (left, kept):
        logons.listener(*login, NOW)
    door.logons.end(door.who(kept.session_id), NOW)
    stays = door.logged_on()
    assert logons.due(NOW + STEP_S)
    connected = [left.session_id, kept.session_id, stays.session_id]
    assert logons.void(connected, NOW + STEP_S) == connected[:2]


def test_who_has_lost_the_role_hears_no_more(door: Door) -> None:
    session_id, path = door.logged_on().session_id, door.alice.path
    assert door.logons.void([session_id], NOW) == []
    path.write_text(path.read_text().replace("subscriber", "executor"))
    door.who(session_id)
    assert door.logons.void([session_id], NOW) == [session_id]


def test_looks_are_few_however_many_log_in(door: Door) -> None:
    logons = door.logons
    for second in range(100):
        logons.listener(*door.logged_on(NOW + second), NOW + second)
    looks = 0
    for second in range(200):
        now = NOW + SESSION_S + second
        if logons.due(now):
            looks += 1
            logons.looked(now)
    assert 0 < looks <= 100 / STEP_S + 5
