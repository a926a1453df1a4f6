"""The HMC dialect with `zhmcclient` as it is, over TLS: notices over STOMP, from a RabbitMQ of the
module's own."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import unquote

import pytest
import zhmcclient

from api.logon import CREDENTIAL, SESSION
from api.users import remove_user
from broker.notices import job_topic
from tests.dialects.hmc.broker import BrokerWorld, Heard, hearing
from tests.dialects.hmc.world import eventually, name_of, sealed
from tests.logins import Login
from tests.tls_servers import tls_servers

# stomp.py leaves its sockets to the garbage collector.
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerWorld]:
    folder = tmp_path_factory.mktemp("hmc")
    with tls_servers(folder, cache_ms=1_000, http_ports=(0, 0), management=True) as servers:
        yield BrokerWorld(servers.stack, servers.rabbitmq)


def logins(session: zhmcclient.Session, who: Login) -> dict[str, tuple[str, str]]:
    session.logon()
    return {
        "user": (who.name, who.token),
        "session": (session.session_id, session.session_credential),
    }


@pytest.mark.parametrize("by", ["user", "session"])
def test_the_end_of_a_job_is_told_over_stomp(
    world: BrokerWorld, session: zhmcclient.Session, alice: Login, by: str
) -> None:
    receiver = world.receiver(job_topic(alice.name), *logins(session, alice)[by])
    with hearing(receiver) as heard:
        eventually(lambda: heard.error or world.bound(alice))
        assert heard.error is None
        bob = world.fresh()
        other, job = world.job(session, bob), world.job(session, alice)
        world.ended(other, bob, "succeeded")
        world.report(alice, name_of(job), "failed")
        eventually(lambda: heard.error or heard.notices)
        headers, body = heard.notices[0]
        assert headers["notification-type"] == "job-completion"
        assert headers["job-uri"] == job.uri
        assert body is None
        assert int(headers["session-sequence-nr"]) == int(headers["global-sequence-nr"])
        assert job.query_status()[:2] == ("complete", 500)  # readable at once
        then = world.job(session, alice)
        world.report(alice, name_of(then), "canceled")
        eventually(lambda: {told["job-uri"] for told, _ in heard.notices} == {job.uri, then.uri})
        numbers = [int(told["global-sequence-nr"]) for told, _ in heard.notices]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("by", ["user", "session"])
@pytest.mark.parametrize("topic", ["{other}.1job", "#", "*.1job", "#.1job", "{other}.#", "{near}"])
def test_no_other_topic_is_heard(
    world: BrokerWorld, session: zhmcclient.Session, alice: Login, topic: str, by: str
) -> None:
    bob = world.fresh()
    part = job_topic(bob.name).partition(".")[0]
    names = {"other": part, "near": f"{alice.name}.1job"}  # the name itself is cut at its dot
    wanted = topic.format(**names)
    with hearing(world.receiver(wanted, *logins(session, alice)[by])) as heard:
        eventually(lambda: heard.over)
    assert isinstance(heard.error, zhmcclient.NotificationJMSError)
    assert "access_refused" in str(heard.error)
    asked = rf'who={alice.name} door=amqp action="?read key {re.escape(wanted)} of amq.topic'
    assert re.search(asked, world.log)


def test_all_of_ones_own_topics_may_be_heard_at_once(
    world: BrokerWorld, session: zhmcclient.Session, alice: Login
) -> None:
    own = job_topic(alice.name).partition(".")[0]
    with hearing(world.receiver(f"{own}.#", *logins(session, alice)["session"])) as heard:
        job = world.job(session, alice)
        eventually(lambda: heard.error or heard_of(world, heard, alice, job))
        assert heard.error is None
        assert heard.notices[0][0]["notification-type"] == "job-completion"


def heard_of(world: BrokerWorld, heard: Heard, owner: Login, job: zhmcclient.Job) -> bool:
    """Ends jobs until one is heard of: that one listens by now is seen nowhere else."""
    one = world.job(job.session, owner)
    world.ended(one, owner, "succeeded")
    return bool(heard.notices)


def test_a_wrong_credential_and_one_of_another_session_do_not_connect(
    world: BrokerWorld, session: zhmcclient.Session, alice: Login
) -> None:
    session.logon()
    other = world.session(alice)
    other.logon()
    for userid, password in (
        (session.session_id, "wrong"),
        (session.session_id, other.session_credential),
        (session.session_id, session.session_id),
        (session.session_id, alice.token),
        (session.session_credential, session.session_id),
        (alice.name, session.session_credential),
    ):
        with hearing(world.receiver("x", userid, password)) as heard:
            eventually(lambda heard=heard: heard.over)  # type: ignore[misc] # bound in the loop
        assert isinstance(heard.error, zhmcclient.NotificationConnectionError)


GONE: Final = (zhmcclient.NotificationJMSError, zhmcclient.NotificationConnectionError)
"""The client tells of the frame with which it is closed, or of the end of the connection alone."""
Ending = Callable[[BrokerWorld, Login, zhmcclient.Session], object]


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(lambda _, __, session: session.logoff(), id="logged off"),
        pytest.param(lambda world, who, _: remove_user(world.users_file, who.name), id="removed"),
    ],
)
def test_who_is_gone_hears_no_more(
    world: BrokerWorld, session: zhmcclient.Session, alice: Login, ending: Ending
) -> None:
    receiver = world.receiver(session_topic(session), *logins(session, alice)["session"])
    with hearing(receiver) as heard:
        eventually(lambda: world.bound(alice))
        assert not heard.over
        ending(world, alice, session)
        eventually(lambda: heard.over)
    eventually(lambda: not world.bound(alice), within_s=1)  # the broker tells first, then unbinds
    assert isinstance(heard.error, GONE)


def session_topic(session: zhmcclient.Session) -> str:
    session.logon()
    return str(session.job_topic)


def test_a_session_that_expires_is_closed_at_the_broker(world: BrokerWorld, alice: Login) -> None:
    expires = time.time() + 8
    login = sealed(alice, SESSION, expires), sealed(alice, CREDENTIAL, expires)
    with hearing(world.receiver(job_topic(alice.name), *login)) as heard:
        eventually(lambda: heard.error or world.bound(alice))
        assert heard.error is None
        eventually(lambda: heard.over)
    assert time.time() >= int(expires)


def test_no_session_id_stands_in_our_logs(
    world: BrokerWorld, session: zhmcclient.Session, alice: Login
) -> None:
    login = logins(session, alice)["session"]
    with hearing(world.receiver("#", *login)) as heard:
        eventually(lambda: heard.over)
    with hearing(world.receiver(job_topic(alice.name), *login)) as heard:
        eventually(lambda: world.bound(alice))
        session.logoff()
        eventually(lambda: heard.over)
    text = unquote(world.log)
    assert f"refused who={alice.name} door=amqp" in text
    assert "closed the connections of" in text
    assert not any(secret in text for secret in login)
