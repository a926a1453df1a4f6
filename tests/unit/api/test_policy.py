from collections.abc import Collection

import pytest

from api.policy import (
    LISTENER,
    PERMISSIONS,
    ROLES,
    may_route,
    may_use,
    must_be_transient,
    roles_of,
    tags_of,
)
from broker.notices import TOPICS, job_topic
from jobcast.names import COMMANDS, DEAD, EVENTS, LIFECYCLE, QUERY, encode_part

STOMP = "stomp-subscription-lv1It_r1mivI5W0Twxrr3w"
OWNERS = ("a", "a.b", "A", "alice", "alice.x", "alicex", "alice@corp", "al%2Eice")


@pytest.mark.parametrize(
    ("roles", "exchange", "permissions"),
    [
        ("subscriber", EVENTS, "read"),
        ("subscriber", QUERY, "write"),
        ("subscriber", LIFECYCLE, ""),
        ("subscriber", COMMANDS, ""),
        ("executor", LIFECYCLE, "write"),
        ("executor", COMMANDS, "read"),
        ("executor", EVENTS, ""),
        ("executor", QUERY, ""),
        ("subscriber executor", EVENTS, "read"),
        ("subscriber", TOPICS, "read"),
        ("executor", TOPICS, ""),
        (LISTENER, TOPICS, "read"),
        (LISTENER, EVENTS, ""),
        (LISTENER, QUERY, ""),
        ("", EVENTS, ""),
        *(
            (roles, exchange, "")
            for roles in ("subscriber", "executor", "subscriber executor", "nobody")
            for exchange in ("", "amq.default", "amq.headers", "sub.alice.x.y", "x")
        ),
        *(
            ("admin", name, "configure write read")
            for name in (EVENTS, LIFECYCLE, "amq.default", "x")
        ),
    ],
)
def test_each_role_has_its_exchanges(roles: str, exchange: str, permissions: str) -> None:
    allowed = {
        permission
        for permission in (*PERMISSIONS, "delete", "")
        if may_use("alice", roles.split(), "exchange", exchange, permission)
    }
    assert allowed & PERMISSIONS == set(permissions.split())


@pytest.mark.parametrize(
    ("roles", "queue", "good"),
    [
        ("subscriber", "sub.alice.client.name", True),
        ("subscriber", "sub.alice.a%2Eb.%40", True),
        ("subscriber", STOMP, True),
        ("executor", "cmd.alice.name", True),
        ("subscriber executor", "cmd.alice.name", True),
        ("admin", "anything", True),
        ("subscriber", "sub.alice.client", False),
        ("subscriber", "sub.alice.client.name.more", False),
        ("subscriber", "sub.alice..name", False),
        ("subscriber", "sub.alice.client.", False),
        ("subscriber", "sub.alice.*.#", False),
        ("subscriber", "sub.alice.a b.c", False),
        ("subscriber", "sub.alice.client.name\n", False),
        ("subscriber", "sub.alice%2E.client.name", False),
        ("subscriber", "sub.%61lice.client.name", False),
        ("subscriber", "sub.Alice.client.name", False),
        ("subscriber", "sub.bob.client.name", False),
        ("subscriber", "cmd.alice.name", False),
        ("subscriber", "amq.gen-9bCpIzCtT6b9n42jCJaD8g", False),
        ("subscriber", "", False),
        ("subscriber", DEAD, False),
        ("subscriber", "jobcast.state.0", False),
        ("subscriber", STOMP + "x", False),
        ("subscriber", STOMP + "\n", False),
        (LISTENER, STOMP, True),
        (LISTENER, "sub.alice.client.name", False),
        (LISTENER, "cmd.alice.name", False),
        ("executor", "sub.alice.client.name", False),
        ("executor", STOMP, False),
        ("executor", "cmd.alice.a.b", False),
        ("executor", "cmd.bob.name", False),
        ("", "sub.alice.client.name", False),
    ],
)
def test_each_role_has_its_queues(roles: str, queue: str, good: bool) -> None:
    assert {
        may_use("alice", roles.split(), "queue", queue, permission) for permission in PERMISSIONS
    } == {good}


def test_a_question_nobody_has_thought_of_is_answered_no() -> None:
    roles = ["subscriber", "executor"]
    assert not may_use("alice", roles, "queue", "sub.alice.c.n", "own")
    assert not may_use("alice", roles, "topic", EVENTS, "read")
    assert not may_use("alice", roles, "exchange", EVENTS, "")
    assert not may_route("alice", roles, EVENTS, "write", "alice.x")
    assert not may_route("alice", roles, TOPICS, "write", "alice.1job")
    assert not may_route("alice", roles, "amq.headers", "read", "alice.#")


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("other", OWNERS)
def test_a_queue_belongs_to_exactly_the_owner_whose_encoded_name_it_bears(
    owner: str, other: str
) -> None:
    queue = f"sub.{encode_part(other)}.c.n"
    assert may_use(owner, ["subscriber"], "queue", queue, "read") == (owner == other)
    key = f"{encode_part(other)}.job.succeeded.j"
    assert may_route(owner, ["subscriber"], EVENTS, "read", key) == (owner == other)
    for roles in (["subscriber"], [LISTENER]):
        assert may_route(owner, roles, TOPICS, "read", job_topic(other)) == (owner == other)


@pytest.mark.parametrize("key", ["alice", "alice.#", "alice.*.failed.*", "alice.job.started.x"])
def test_a_key_whose_first_part_is_ones_own_may_be_bound(key: str) -> None:
    assert may_route("alice", ["subscriber"], EVENTS, "read", key)
    assert may_route("alice", ["subscriber"], TOPICS, "read", key)
    assert may_route("alice", [LISTENER], TOPICS, "read", key)
    assert not may_route("alice", [LISTENER], EVENTS, "read", key)
    assert not may_route("alice", ["executor"], TOPICS, "read", key)


@pytest.mark.parametrize(
    "key",
    ["", "#", "*", "#.alice", "*.x", "bob.#", "alicex.#", "Alice.#", "alice%2Ex.#", ".alice.#"],
)
def test_a_key_that_could_match_anothers_may_not(key: str) -> None:
    for exchange in (EVENTS, TOPICS):
        assert not may_route("alice", ["subscriber", "executor", LISTENER], exchange, "read", key)
    assert may_route("root", ["admin"], EVENTS, "read", key)


def test_an_executor_hears_the_commands_and_not_the_events() -> None:
    assert may_route("exe", ["executor"], COMMANDS, "read", "#")
    assert not may_route("exe", ["executor"], EVENTS, "read", "exe.#")
    assert not may_route("alice", ["subscriber"], COMMANDS, "read", "#")


def test_a_stomp_queue_is_read_and_bound_only_while_it_is_not_durable() -> None:
    assert must_be_transient("queue", STOMP, "read")
    assert must_be_transient("queue", STOMP, "write")
    assert not must_be_transient("queue", STOMP, "configure")
    assert not must_be_transient("queue", "sub.alice.c.n", "read")


@pytest.mark.parametrize(
    ("roles", "tags"),
    [
        (["subscriber"], "jobcast-subscriber"),
        (["executor", "admin", "x"], "jobcast-admin jobcast-executor"),
        (["administrator", "management", "impersonator"], ""),
    ],
)
def test_roles_travel_as_tags_that_mean_nothing_to_rabbitmq(
    roles: Collection[str], tags: str
) -> None:
    assert tags_of(roles) == tags
    assert roles_of(tags) == ROLES & set(roles)
    assert roles_of(f"{tags} admin administrator jobcast- jobcast-root") == ROLES & set(roles)
