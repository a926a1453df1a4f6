"""The HMC dialect with `zhmcclient` as it is, over TLS: who is let in, and for how long."""

import time

import pytest
import zhmcclient

from api.logon import CREDENTIAL, SESSION
from api.users import remove_user
from broker.notices import job_topic
from deploy.process import LOOPBACK
from tests.dialects.hmc.world import World, refused, sealed
from tests.logins import Login

pytestmark = pytest.mark.timeout(120)


def test_the_version_is_told_to_anybody(world: World, alice: Login) -> None:
    client = zhmcclient.Client(world.session(alice, password=None))
    assert client.version_info() == (4, 1)
    assert client.query_api_version()["hmc-version"] == "2.16.0"


def test_a_user_logs_on_and_off(session: zhmcclient.Session, alice: Login) -> None:
    session.logon(verify=True)
    assert session.is_logon(verify=True)
    assert session.job_topic == job_topic(alice.name)
    topics = {one["topic-type"]: one["topic-name"] for one in session.get_notification_topics()}
    assert topics == {
        "object-notification": session.object_topic,
        "job-notification": session.job_topic,
    }
    left = session.session_id
    session.logoff()
    old = zhmcclient.Session(
        LOOPBACK, session_id=left, port=session.port, verify_cert=session.verify_cert
    )
    with pytest.raises(zhmcclient.ClientAuthError):  # it would log on, and has no userid
        old.get("/api/console")


@pytest.mark.parametrize("password", ["wrong", "", "é" * 100])
def test_a_wrong_password_is_refused_once(world: World, alice: Login, password: str) -> None:
    with pytest.raises(zhmcclient.ServerAuthError) as caught:
        world.session(alice, password=password).logon()
    assert (caught.value.details.http_status, caught.value.details.reason) == (403, 0)


def test_who_may_not_follow_jobs_has_no_session(world: World) -> None:
    assert refused(world.session(world.executor).logon) == (403, 1)


def test_an_expired_session_is_followed_by_a_new_one_by_itself(world: World, alice: Login) -> None:
    old = sealed(alice, SESSION, time.time() - 1)
    session = world.session(alice, session_id=old)
    job = world.job(session, alice)
    assert job.check_for_completion() == ("running", None)
    assert session.session_id != old
    again = world.session(alice, session_id=session.session_id, password=None, replica=1)
    assert zhmcclient.Job(again, job.uri, "", "").query_status()[0] == "running"


def test_a_session_of_another_user_a_longer_one_and_the_credential_open_nothing(
    world: World, alice: Login, session: zhmcclient.Session
) -> None:
    bob, later = world.fresh(), time.time() + 60
    session.logon()
    expires, _, rest = session.session_id.partition(".")
    for forged in (
        sealed(alice, SESSION, later, bob.name),
        f"{int(expires) + 1}.{rest}",
        session.session_credential,
        sealed(alice, CREDENTIAL, later),
        session.session_id.replace(alice.name, bob.name),
        "",
        "x",
    ):
        with world.http() as http:
            told = http.get("/api/console", headers={"X-API-Session": forged})
        assert (told.status_code, told.json()["reason"]) == (403, 5), forged
        assert told.headers["content-type"].startswith("application/json")


def test_a_rotated_token_ends_its_sessions(world: World) -> None:
    gone = world.fresh()
    session = world.session(gone)
    session.logon()
    remove_user(world.users_file, gone.name)
    with pytest.raises(zhmcclient.ServerAuthError):
        session.get("/api/console")
