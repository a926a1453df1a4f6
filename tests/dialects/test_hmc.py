"""The HMC dialect with `zhmcclient` as it is, over TLS: jobs, sessions, and notices over STOMP."""

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

import httpx
import pytest
import zhmcclient
from stomp.exception import StompException

from api import seal
from api.logon import CREDENTIAL, SESSION
from api.users import add_user, remove_user
from broker.notices import TOPICS, job_topic
from deploy.certificates import Certificates, certificates_in
from deploy.guard import Doors
from deploy.process import LOOPBACK, free_port
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Layout, Stack
from notifier.users import digest
from tests.logins import Login
from tests.servers import need_servers

# stomp.py leaves its sockets to the garbage collector.
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PATIENCE_S: Final = 30.0
TRIES: Final = 5
HEARTBEAT: Final = zhmcclient.StompRetryTimeoutConfig(
    heartbeat_send_cycle=1, heartbeat_receive_cycle=1, connect_retries=3
)


class World(NamedTuple):
    certificates: Certificates
    rabbitmq: RabbitMQNode
    stack: Stack
    users_file: Path
    executor: Login

    def fresh(self, name: str = "owner", role: str = "subscriber") -> Login:
        """A user of this test alone, whose name holds all that topics write otherwise."""
        name = f"{name}.{uuid.uuid4().hex[:8]}"
        return Login(name, add_user(self.users_file, name, [role]))

    def port(self, replica: int = 0) -> int:
        return int(self.stack.urls[replica].rpartition(":")[2])

    def session(self, who: Login, replica: int = 0, **more: Any) -> zhmcclient.Session:
        return zhmcclient.Session(
            LOOPBACK,
            **{"userid": who.name, "password": who.token} | more,
            port=self.port(replica),
            verify_cert=str(self.certificates.ca),
        )

    def http(self, replica: int = 0) -> httpx.Client:
        return httpx.Client(
            base_url=self.stack.urls[replica], verify=self.certificates.context(), timeout=30
        )

    def report(self, owner: Login, job: str, word: str, **data: Any) -> None:
        event = {
            "specversion": "1.0",
            "id": uuid.uuid4().hex,
            "source": "/tests",
            "type": f"job.{word}",
            "subject": job,
            "owner": owner.name,
            "data": data,
        }
        with self.http() as http:
            told = http.post("/v1/events", json=event, headers=self.executor.headers)
        assert told.status_code == 202, told.text

    def job(self, session: zhmcclient.Session, owner: Login, **data: Any) -> zhmcclient.Job:
        """A job of the owner, which runs and can be read."""
        job = zhmcclient.Job(session, f"/api/jobs/{uuid.uuid4().hex}", "POST", "/api/x")
        self.report(owner, name_of(job), "started", **data)
        with self.http() as http:
            path = f"/v1/jobs/{name_of(job)}"
            eventually(lambda: http.get(path, headers=owner.headers).status_code == 200)
        return job

    def ended(self, job: zhmcclient.Job, owner: Login, word: str, **data: Any) -> None:
        """Ends the job, and waits until it can be seen."""
        self.report(owner, name_of(job), word, **data)
        with self.http() as http:
            path = f"/v1/jobs/{name_of(job)}?wait={PATIENCE_S}"
            assert http.get(path, headers=owner.headers).json()["ended_at"]

    def bound(self, owner: Login) -> bool:
        """Whether somebody listens to the owner's job topic."""
        with httpx.Client(verify=self.certificates.context(), auth=self.rabbitmq.login) as http:
            url = f"{self.rabbitmq.management_url}/api/exchanges/%2F/{TOPICS}/bindings/source"
            return job_topic(owner.name) in {one["routing_key"] for one in http.get(url).json()}

    @property
    def log(self) -> str:
        """What all our processes have written."""
        return "".join(path.read_text() for path in self.stack.layout.folder.glob("*.log"))

    def receiver(self, topics: str, userid: str, password: str) -> zhmcclient.NotificationReceiver:
        return zhmcclient.NotificationReceiver(
            topics,
            LOOPBACK,
            userid,
            password,
            port=self.rabbitmq.stomp_port,
            verify_cert=str(self.certificates.ca),
            stomp_rt_config=HEARTBEAT,
        )


def name_of(job: zhmcclient.Job) -> str:
    return str(job.uri).rpartition("/")[2]


def eventually(check: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    ends = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < ends, "it has not come to that"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    need_servers()
    folder = tmp_path_factory.mktemp("hmc")
    certificates = certificates_in(folder / "tls")
    authority, users_file = free_port(), folder / "users.toml"
    executor = Login("executor", add_user(users_file, "executor", ["executor"]))
    doors = Doors(authority=f"https://localhost:{authority}", cache_ms=1_000)
    with (
        RabbitMQNode(folder / "rabbitmq", doors=doors, certificates=certificates) as rabbitmq,
        RedisNode(folder / "redis", certificates=certificates) as store,
        Stack(
            Layout(
                amqp_url=rabbitmq.url,
                redis_url=store.url,
                redis_reader_url=store.reader_url,
                users_file=users_file,
                folder=folder / "log",
                http_ports=(0, 0),
                authority_port=authority,
                management_url=rabbitmq.management_url,
                certificates=certificates,
            )
        ) as stack,
    ):
        yield World(certificates, rabbitmq, stack, users_file, executor)
        rabbitmq.kill()  # there is nothing to keep, and a graceful end takes seconds


@pytest.fixture
def alice(world: World) -> Login:
    return world.fresh("al_ice")


@pytest.fixture
def session(world: World, alice: Login) -> zhmcclient.Session:
    return world.session(alice)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's fixed pause of 10 s between two looks, shortened."""
    clock = SimpleNamespace(time=time.time, sleep=lambda _: time.sleep(0.1))
    monkeypatch.setattr("zhmcclient._session.time", clock)


def refused(call: Callable[[], object]) -> tuple[int, int]:
    with pytest.raises(zhmcclient.HTTPError) as caught:
        call()
    return caught.value.http_status, caught.value.reason


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


def sealed(who: Login, purpose: bytes, expires: float, name: str | None = None) -> str:
    key = bytes.fromhex(digest(who.token))
    return seal.seal(f"{name or who.name}!nonce", key, purpose, int(expires))


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


def test_a_success_is_told_with_its_results_and_deleted(
    world: World, session: zhmcclient.Session, alice: Login
) -> None:
    job = world.job(session, alice)
    assert job.check_for_completion() == ("running", None)
    world.ended(job, alice, "succeeded", result={"answer": 42})
    assert job.query_status() == ("complete", 200, None, {"answer": 42})
    assert job.check_for_completion() == ("complete", {"answer": 42})
    assert refused(job.check_for_completion) == (404, 1)
    with world.http() as http:
        gone = http.get(f"/v1/jobs/{name_of(job)}", headers=alice.headers)
    assert gone.status_code == 410


@pytest.mark.parametrize(
    ("result", "results"),
    [(None, None), ([1], {"value": [1]}), ("text", {"value": "text"}), ({}, {})],
)
def test_a_result_of_any_form_reaches_the_client(
    world: World, session: zhmcclient.Session, alice: Login, result: object, results: object
) -> None:
    job = world.job(session, alice)
    world.ended(job, alice, "succeeded", result=result)
    assert job.wait_for_completion() == results


def test_a_failure_is_raised_with_code_reason_and_message(
    world: World, session: zhmcclient.Session, alice: Login
) -> None:
    job = world.job(session, alice)
    data = {"status_code": 409, "reason_code": 7, "error": {"code": "x", "message": "no space"}}
    world.ended(job, alice, "failed", **data)
    with pytest.raises(zhmcclient.HTTPError) as caught:
        job.wait_for_completion()
    told = caught.value
    assert (told.http_status, told.reason, told.message) == (409, 7, "no space")


def test_waiting_ends_with_the_job(
    world: World, session: zhmcclient.Session, alice: Login, hurried: None
) -> None:
    job = world.job(session, alice)
    threading.Timer(0.5, world.report, (alice, name_of(job), "succeeded")).start()
    assert job.wait_for_completion(operation_timeout=PATIENCE_S) is None


def test_a_cancellation_is_pending_and_then_done(
    world: World, session: zhmcclient.Session, alice: Login
) -> None:
    job = world.job(session, alice)
    job.cancel()
    assert job.check_for_completion() == ("cancel-pending", None)
    assert refused(job.cancel) == (409, 42)
    assert refused(job.delete) == (409, 40)
    world.ended(job, alice, "canceled")
    assert job.query_status() == ("canceled", 499, 0, None)
    assert refused(job.cancel) == (409, 41)
    job.delete()
    assert refused(job.delete) == (404, 1)
    assert refused(job.cancel) == (404, 1)


def test_what_cannot_be_canceled_or_deleted_yet(
    world: World, session: zhmcclient.Session, alice: Login
) -> None:
    job = world.job(session, alice, cancelable=False)
    assert refused(job.cancel) == (404, 4)
    assert refused(job.delete) == (409, 40)


def test_a_job_that_is_not_ones_own_is_answered_as_one_that_is_not_there(
    world: World, session: zhmcclient.Session, alice: Login
) -> None:
    bob = world.fresh()
    foreign, deleted = world.job(world.session(bob), bob), world.job(session, alice)
    world.ended(deleted, alice, "succeeded")
    deleted.delete()
    session.logon()
    ids = [name_of(foreign), name_of(deleted), "unknown", "no id!", "x" * 300]
    told = set()
    with world.http() as http:
        http.headers["X-API-Session"] = session.session_id
        for method, path in (
            ("GET", "/api/jobs/{}"),
            ("DELETE", "/api/jobs/{}"),
            ("POST", "/api/jobs/{}/operations/cancel"),
        ):
            for one in ids:
                answer = http.request(method, path.format(quote(one)))
                assert (answer.status_code, answer.json()["reason"]) == (404, 1)
                body = answer.text.replace(one, "-").replace(method, "-")
                told.add(body.replace("/operations/cancel", ""))
    assert len(told) == 1
    assert world.job(session, bob).uri  # bob's is still there
    other = zhmcclient.Job(world.session(bob), foreign.uri, "", "")
    assert other.query_status()[0] == "running"


ASKED: Final = [
    ("GET", "/api/jobs/x", {}, 403, 4),
    ("GET", "/api/jobs/x", {"headers": {"X-API-Session": "wrong"}}, 403, 5),
    ("GET", "/api/sse", {}, 403, 4),
    ("POST", "/api/sse", {}, 405, 1),
    ("DELETE", "/api/sessions/this-session", {}, 403, 4),
    ("PUT", "/api/jobs/x", {}, 405, 1),
    ("GET", "/api/sessions", {}, 405, 1),
    ("PROPFIND", "/api/version", {}, 405, 1),
    ("GET", "/api", {}, 404, 1),
    ("GET", "/api/", {}, 404, 1),
    ("GET", "/api/cpcs", {}, 404, 1),
    ("POST", "/api/jobs", {}, 404, 1),
    ("GET", "/api/version?x=1", {}, 400, 1),
    ("GET", "/api/version", {"content": b"{}"}, 400, 4),
    ("POST", "/api/sessions", {}, 400, 3),
    ("POST", "/api/sessions", {"json": {"userid": "a"}}, 400, 5),
    ("POST", "/api/sessions", {"json": {"userid": "a", "password": "b", "c": 1}}, 400, 6),
    ("POST", "/api/sessions", {"json": {"userid": 1, "password": "b"}}, 400, 7),
    ("POST", "/api/sessions", {"json": []}, 400, 7),
    ("POST", "/api/sessions", {"content": b"{"}, 400, 9),
    ("POST", "/api/sessions", {"content": b" " * 20_000}, 413, 0),
]


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: f"{asked[0]} {asked[1]} {asked[4]}")
def test_every_error_has_the_body_of_the_hmc(
    world: World, asked: tuple[str, str, dict[str, Any], int, int]
) -> None:
    method, path, more, status, reason = asked
    with world.http() as http:
        told = http.request(method, path, **more)
    assert told.headers["content-type"].startswith("application/json")
    body = told.json()
    assert (told.status_code, body["http-status"], body["reason"]) == (status, status, reason)
    assert body["message"]
    assert (body["request-method"], body["request-uri"]) == (method, path.partition("?")[0])
    assert body["request-authenticated-as"] is None


class Heard:
    """What a receiver hears, in a thread of its own."""

    def __init__(self, receiver: zhmcclient.NotificationReceiver) -> None:
        self.notices: list[tuple[dict[str, str], object]] = []
        self.error: Exception | None = None
        self._receiver = receiver
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        """As its documentation has it: a lost connection is made again, all else is for good.

        It loses one in twenty by itself, before it has subscribed: stomp.py reads and writes one
        TLS socket at the same time, and then hears of an end that nobody has sent.
        """
        for _ in range(TRIES):
            try:
                for notice in self._receiver.notifications():
                    self.notices.append(notice)
                return
            except zhmcclient.NotificationConnectionError as error:
                last: Exception = error
                if self._stopped:
                    break
            except Exception as error:  # noqa: BLE001,RUF100 - looked at by the test
                last = error
                break
        self.error = last

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        if not self.over:  # it looks at that after some seconds, which need not be waited for
            with suppress(StompException):
                self._receiver.close()


@contextmanager
def hearing(receiver: zhmcclient.NotificationReceiver) -> Iterator[Heard]:
    heard = Heard(receiver)
    heard.start()
    try:
        yield heard
    finally:
        heard.stop()


def logins(session: zhmcclient.Session, who: Login) -> dict[str, tuple[str, str]]:
    session.logon()
    return {
        "user": (who.name, who.token),
        "session": (session.session_id, session.session_credential),
    }


@pytest.mark.parametrize("by", ["user", "session"])
def test_the_end_of_a_job_is_told_over_stomp(
    world: World, session: zhmcclient.Session, alice: Login, by: str
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
    world: World, session: zhmcclient.Session, alice: Login, topic: str, by: str
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
    world: World, session: zhmcclient.Session, alice: Login
) -> None:
    own = job_topic(alice.name).partition(".")[0]
    with hearing(world.receiver(f"{own}.#", *logins(session, alice)["session"])) as heard:
        job = world.job(session, alice)
        eventually(lambda: heard.error or heard_of(world, heard, alice, job))


def heard_of(world: World, heard: Heard, owner: Login, job: zhmcclient.Job) -> bool:
    """Ends jobs until one is heard of: that one listens by now is seen nowhere else."""
    one = world.job(job.session, owner)
    world.ended(one, owner, "succeeded")
    return bool(heard.notices)


def test_a_wrong_credential_and_one_of_another_session_do_not_connect(
    world: World, session: zhmcclient.Session, alice: Login
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
Ending = Callable[[World, Login, zhmcclient.Session], object]


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(lambda _, __, session: session.logoff(), id="logged off"),
        pytest.param(lambda world, who, _: remove_user(world.users_file, who.name), id="removed"),
    ],
)
def test_who_is_gone_hears_no_more(
    world: World, session: zhmcclient.Session, alice: Login, ending: Ending
) -> None:
    receiver = world.receiver(session_topic(session), *logins(session, alice)["session"])
    with hearing(receiver) as heard:
        eventually(lambda: world.bound(alice))
        assert not heard.over
        ending(world, alice, session)
        eventually(lambda: heard.over)
    assert not world.bound(alice)
    assert isinstance(heard.error, GONE)


def session_topic(session: zhmcclient.Session) -> str:
    session.logon()
    return str(session.job_topic)


def test_a_session_that_expires_is_closed_at_the_broker(world: World, alice: Login) -> None:
    expires = time.time() + 8
    login = sealed(alice, SESSION, expires), sealed(alice, CREDENTIAL, expires)
    with hearing(world.receiver(job_topic(alice.name), *login)) as heard:
        eventually(lambda: heard.error or world.bound(alice))
        assert heard.error is None
        eventually(lambda: heard.over)
    assert time.time() >= int(expires)


def test_no_session_id_stands_in_our_logs(
    world: World, session: zhmcclient.Session, alice: Login
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


def test_the_ends_of_jobs_come_as_server_sent_events_and_are_resumed(
    world: World, session: zhmcclient.Session, alice: Login
) -> None:
    session.logon()
    first, second = world.job(session, alice), world.job(session, alice)
    headers = {"X-API-Session": session.session_id}
    with (
        world.http() as http,
        http.stream("GET", "/api/sse", headers=headers) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        assert until(lines, "event: live")[0].startswith("retry: ")
        world.report(alice, name_of(first), "succeeded", result={"secret": 1})
        told = until(lines, "data: ", "job-completion")
        assert told[-1] == (
            'data: {"headers":{"notification-type":"job-completion",'
            f'"job-uri":"{first.uri}"}},"body":null}}'
        )
        cursor = told[-2].removeprefix("id: ")
    world.ended(second, alice, "failed")
    world.report(alice, name_of(second), "recorded", target="t", code=0)
    with (
        world.http(1) as http,
        http.stream("GET", "/api/sse", headers=headers | {"Last-Event-ID": cursor}) as response,
    ):
        told = until(response.iter_lines(), "data: ", "job-completion")
        assert 'data: {"resume":"resumed"}' in told
        assert second.uri in told[-1]
    unknown = headers | {"Last-Event-ID": "1-1"}
    with world.http() as http, http.stream("GET", "/api/sse", headers=unknown) as response:
        told = until(response.iter_lines(), "event: live")
        assert 'data: {"resume":"reset"}' in told
        assert told.count("event: job-completion") == 2  # all that are kept, once more


def until(lines: Iterator[str], *words: str) -> list[str]:
    """The lines up to the one that holds all words."""
    found = []
    for line in lines:
        found.append(line)
        if all(word in line for word in words):
            return found
    raise AssertionError(f"the stream ended: {found}")


def test_a_stream_ends_with_its_session(world: World, session: zhmcclient.Session) -> None:
    session.logon()
    headers = {"X-API-Session": session.session_id}
    with world.http() as http, http.stream("GET", "/api/sse", headers=headers) as response:
        lines = response.iter_lines()
        until(lines, "event: live")
        session.logoff()
        until(lines, ": revoked")
