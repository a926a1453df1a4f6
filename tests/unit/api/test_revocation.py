from pathlib import Path

import pytest

from api.deadlines import Deadlines
from api.management import Bound
from api.revocation import AGAIN_S, Revocation
from api.users import add_user, remove_user, rotate_token
from jobcast.names import COMMANDS, EVENTS, LIFECYCLE
from notifier.users import Users

NOW = 1_000_000.0


class Bench:
    """A file with alice, and what is decided about it."""

    def __init__(self, folder: Path, *, issued: bool = False) -> None:
        self.path = folder / "users.toml"
        add_user(self.path, "alice", ["subscriber"])
        add_user(self.path, "root", ["admin"])
        self.deadlines = Deadlines()
        self.revocation = Revocation(Users(self.path), self.deadlines, issued=issued)
        self.revocation.begin([], [], {})
        self.revocation.swept(NOW)

    def due(self, now: float = NOW) -> set[str]:
        self.revocation.look(now)
        return set(self.revocation.due(now))

    def is_void(self, queue: str, key: str, source: str = EVENTS, kind: str = "queue") -> bool:
        return self.revocation.is_void(Bound(source, queue, kind, key, key))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("change", [remove_user, rotate_token])
def test_who_loses_something_is_cut_now_and_again_when_rabbitmqs_cache_has_forgotten(
    bench: Bench, change: object
) -> None:
    assert bench.due() == set()
    assert callable(change)
    change(bench.path, "alice")
    assert bench.due() == {"alice"}
    assert bench.due(NOW + 1) == {"alice"}  # it was not done yet
    bench.revocation.done("alice", NOW + 1)
    assert bench.due(NOW + AGAIN_S - 0.1) == set()
    assert bench.due(NOW + AGAIN_S) == {"alice"}
    bench.revocation.done("alice", NOW + AGAIN_S)
    assert bench.due(NOW + 10 * AGAIN_S) == set()


def test_who_gains_something_is_left_alone(bench: Bench) -> None:
    text = bench.path.read_text()
    bench.path.write_text(text.replace('["subscriber"]', '["subscriber", "executor"]'))
    add_user(bench.path, "new", ["subscriber"])
    assert bench.due() == set()


def test_a_file_with_an_error_cuts_nobody(bench: Bench) -> None:
    bench.path.write_text("not toml")
    assert bench.due() == set()


def test_an_expired_credential_cuts_its_user_once_for_each(bench: Bench) -> None:
    bench.deadlines.note("carol", NOW + 1)
    bench.deadlines.note("carol", NOW + 1)
    bench.deadlines.note("carol", NOW + 60)
    assert bench.due(NOW) == set()
    assert bench.due(NOW + 1) == {"carol"}
    assert not bench.deadlines.over("carol", NOW + 1)
    assert bench.deadlines.over("carol", NOW + 60)
    assert not bench.deadlines.over("somebody else", NOW + 60)


def test_deadlines_beyond_the_bound_are_taken_for_expired_the_earliest_first() -> None:
    deadlines = Deadlines(limit=2)
    for number in (3, 1, 2):
        deadlines.note(f"user-{number}", NOW + number)
    assert deadlines.due(NOW) == {"user-1"}
    assert deadlines.due(NOW + 3) == {"user-2", "user-3"}


def test_at_the_start_everybody_is_cut_who_is_not_what_was_remembered(tmp_path: Path) -> None:
    before = Bench(tmp_path).revocation.marks
    assert before.keys() == {"alice", "root"}
    rotate_token(tmp_path / "users.toml", "alice")
    revocation = Revocation(Users(tmp_path / "users.toml"), Deadlines(), issued=False)
    connected = ["alice", "root", "left", "svc", "monitor"]
    revocation.begin(connected, ["svc", "monitor"], before | {"gone": "x"})
    assert set(revocation.due(NOW * 1e6)) == {"alice", "left", "gone"}


def test_a_mark_says_nothing_of_the_tokens(bench: Bench) -> None:
    for mark in bench.revocation.marks.values():
        assert len(mark) == 16
        assert mark not in bench.path.read_text()


@pytest.mark.parametrize(
    ("queue", "key", "void"),
    [
        ("sub.alice.c.n", "alice.#", False),
        ("sub.alice.c.n", "#", True),
        ("sub.alice.c.n", "root.#", True),
        ("sub.root.c.n", "#", False),
        ("cmd.alice.n", "alice.#", True),
        ("audit-log", "#", False),
        ("sub.newer.c.n", "newer.#", False),  # of a file that has reached others first
        ("sub.newer.c.n", "alice.#", False),  # may be an admin there
    ],
)
def test_a_binding_is_void_if_its_queues_owner_could_not_make_it_today(
    bench: Bench, queue: str, key: str, void: bool
) -> None:
    assert bench.is_void(queue, key) == void


def test_the_bindings_of_a_removed_user_are_void(bench: Bench) -> None:
    remove_user(bench.path, "alice")
    bench.revocation.look(NOW)
    assert bench.revocation.sweep_at == NOW
    assert bench.is_void("sub.alice.c.n", "alice.#")
    add_user(bench.path, "alice", ["subscriber"])
    bench.revocation.look(NOW)
    assert not bench.is_void("sub.alice.c.n", "alice.#")


@pytest.mark.parametrize("issued", [False, True])
def test_only_at_the_start_and_without_an_issuer_the_file_names_everybody(
    tmp_path: Path, issued: bool
) -> None:
    bench = Bench(tmp_path)
    revocation = Revocation(Users(bench.path), Deadlines(), issued=issued)
    binding = Bound(EVENTS, "sub.carol.c.n", "queue", "carol.#", "k")
    assert revocation.is_void(binding) != issued
    revocation.swept(NOW)
    assert not revocation.is_void(binding)


def test_our_exchanges_feed_no_other_of_ours(bench: Bench) -> None:
    assert bench.is_void(LIFECYCLE, "#", COMMANDS, "exchange")
    assert not bench.is_void("somebodys-federation", "#", EVENTS, "exchange")
