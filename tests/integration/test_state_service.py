"""The state service on a real Redis: a batch in, the stored state and the messages out."""

import msgspec
import pytest

from deploy.guard import SERVICE
from jobcast.events import (
    Canceled,
    CancelRequested,
    Commented,
    Deleted,
    Event,
    Failed,
    Heartbeat,
    Progressed,
    Queued,
    Recorded,
    Started,
    Succeeded,
)
from jobcast.message import Incoming
from jobcast.names import DEAD, LIFECYCLE
from jobcast.notification import decode_notification
from jobcast.wire import BATCH, JSON, decode, encode_batch
from notifier.letters import Rules
from tests.integration.lab import Lab, incoming


async def test_a_life_is_stored_told_and_kept_in_the_feed(lab: Lab) -> None:
    await lab.tell(lab.say(Queued, operation="backup", group="nightly"))
    await lab.tell(lab.say(Started), lab.say(Progressed, percent=40))
    await lab.tell(lab.say(Succeeded, result=msgspec.Raw(b'{"size":1}')))
    job = await lab.job()
    assert (job.status, job.version, job.percent, job.operation) == ("succeeded", 4, 100, "backup")
    assert lab.told.ids == ["j/1", "j/2", "j/4"]
    assert [m.type for m in lab.told.notifications] == [
        "job.queued",
        "job.started",
        "job.succeeded",
    ]
    entries = await lab.entries()
    assert [(entry.event, entry.version) for entry in entries] == [
        ("queued", 1),
        ("started", 2),
        ("succeeded", 4),
    ]
    assert [m.headers["cursor"] for m in lab.told.notifications] == [e.cursor for e in entries]
    assert [bytes(e.body) for e in entries] == [
        msgspec.json.encode(decode_notification(m.body).job) for m in lab.told.notifications
    ]


async def test_each_entry_of_the_feed_names_the_one_before(lab: Lab) -> None:
    await lab.tell(*(lab.say(Started, f"j{number}") for number in range(5)))
    await lab.tell(lab.say(Recorded, "j1", target="t", code=1), lab.say(Succeeded, "j2"))
    entries = await lab.entries()
    assert [entry.prev for entry in entries] == ["0-0", *(e.cursor for e in entries[:-1])]


async def test_several_events_of_one_job_in_one_message_are_one_commit_and_all_told(
    lab: Lab,
) -> None:
    events: list[Event] = [lab.say(Queued), lab.say(Started), lab.say(Progressed, percent=1)]
    await lab.process(incoming(*events, lab.say(Failed, message="no disk")))
    assert lab.told.ids == ["j/1", "j/2", "j/4"]
    assert await lab.words() == ["queued", "started", "failed"]
    told = [decode_notification(message.body).job for message in lab.told.notifications]
    assert [job.status for job in told] == ["queued", "running", "failed"]
    assert await lab.job() == told[-1]


async def test_more_status_changes_than_one_commit_may_owe_are_all_told(lab: Lab) -> None:
    attempts = [lab.say(Started, attempt=number) for number in range(1, 41)]
    await lab.process(incoming(*attempts))
    assert lab.told.ids == [f"j/{number}" for number in range(1, 41)]
    assert (await lab.job()).attempt == 40
    assert len(await lab.entries()) == 40


async def test_records_and_comments_count_once_in_a_batch_across_batches_and_restarts(
    lab: Lab,
) -> None:
    record = lab.say(Recorded, target="disk", code=3, sequence=None)
    comment = lab.say(Commented, comment="mine")
    other = lab.say(Commented, comment="another")
    await lab.tell(lab.say(Started), record, record, comment)
    await lab.tell(record, comment)
    await lab.tell(other)
    lab.restart()
    await lab.tell(comment, record)
    job = await lab.job()
    assert (job.version, job.comment) == (4, "another")
    assert await lab.redis.llen(lab.keys.records("j")) == 1
    assert await lab.words() == ["started", "recorded", "commented", "commented"]


async def test_what_says_nothing_new_makes_no_version(lab: Lab) -> None:
    started = lab.say(Started)
    await lab.tell(started)
    await lab.tell(started, lab.say(Heartbeat), lab.say(Started), lab.say(Heartbeat, "unknown"))
    assert (await lab.job()).version == 1
    assert lab.told.ids == ["j/1"]
    assert await lab.store.read(lab.owner, "unknown") is None


async def test_an_executors_repeat_of_what_was_told_is_not_told_again(lab: Lab) -> None:
    started, ended = lab.say(Started), lab.say(Succeeded)
    await lab.tell(started)
    await lab.tell(started)
    await lab.tell(ended, started)
    await lab.tell(ended, started)
    assert lab.told.ids == ["j/1", "j/2"]


async def test_the_command_goes_out_with_the_request_and_again_with_each_start(lab: Lab) -> None:
    await lab.tell(lab.say(Queued, operation="copy"))
    await lab.tell(lab.say(CancelRequested))
    assert lab.told.ids == ["j/1", "j/2"]
    first = lab.told.commands[0]
    assert (first.routing_key, first.message_id) == ("copy.cancel.j", f"{lab.owner}/j/2")
    started = lab.say(Started)
    await lab.tell(started)
    await lab.tell(lab.say(Started, attempt=2))
    assert [message.type for message in lab.told.commands] == ["job.cancel"] * 3
    assert (await lab.job()).status == "cancel-pending"
    assert lab.told.ids == ["j/1", "j/2", "j/4"]
    await lab.tell(lab.say(Canceled, attempt=2))
    assert (await lab.job()).status == "canceled"
    assert len(lab.told.commands) == 3


async def test_the_command_of_a_start_is_sent_again_when_the_start_comes_again(lab: Lab) -> None:
    started = lab.say(Started)
    await lab.tell(lab.say(Queued))
    await lab.tell(lab.say(CancelRequested))
    await lab.tell(started)
    lab.restart()
    await lab.tell(started)
    assert len(lab.told.commands) == 1


async def test_what_cannot_be_read_is_a_dead_letter_and_its_neighbours_are_applied(
    lab: Lab,
) -> None:
    good = encode_batch([lab.say(Started)])[1:-1]
    body = b"[" + good + b',{"specversion":"1.0"},' + good.replace(b"job.started", b"job.x") + b"]"
    await lab.process(Incoming(body=body, content_type=JSON, correlation_id="j"))
    assert (await lab.job()).status == "running"
    dead = [message for message in lab.told.messages if message.routing_key == DEAD]
    assert len(dead) == 2
    assert {message.exchange for message in dead} == {""}
    assert all(message.headers["x-jobcast-reason"] for message in dead)


async def test_the_services_own_events_count_only_from_the_service(lab: Lab) -> None:
    await lab.tell(lab.say(Started))
    await lab.process(incoming(lab.say(CancelRequested), user_id="mallory"))
    assert (await lab.job()).status == "running"
    [dead] = [message for message in lab.told.messages if message.routing_key == DEAD]
    assert dead.headers["x-jobcast-reason"] == "reserved-type"


async def test_one_target_too_many_is_a_dead_letter(lab: Lab) -> None:
    targets = {f"t{number}": 1.0 for number in range(1_000)}
    await lab.tell(lab.say(Progressed, targets=targets))
    await lab.tell(lab.say(Progressed, targets={"one-more": 1.0}), lab.say(Succeeded))
    assert (await lab.job()).version == 2
    [dead] = [message for message in lab.told.messages if message.routing_key == DEAD]
    assert dead.headers["x-jobcast-reason"] == "too-many"


async def test_an_end_and_the_deletion_in_one_batch_are_both_told(lab: Lab) -> None:
    await lab.process(incoming(lab.say(Started), lab.say(Succeeded), lab.say(Deleted)))
    assert lab.told.ids == ["j/1", "j/2"]
    assert await lab.words() == ["started", "succeeded", "deleted"]
    assert await lab.gone() is not None


@pytest.mark.parametrize("progress", [False, True])
async def test_progress_is_told_over_amqp_only_where_it_is_wanted(lab: Lab, progress: bool) -> None:
    lab.rules = Rules(retention_s=14_400, user=SERVICE, amqp_progress=progress)
    lab.restart()
    await lab.tell(lab.say(Started))
    await lab.tell(lab.say(Progressed, percent=5))
    assert lab.told.ids == (["j/1", "j/2"] if progress else ["j/1"])
    assert all(message.headers.get("cursor", "0-1") for message in lab.told.notifications)


async def test_with_partitions_a_message_of_several_jobs_is_sent_again_job_by_job(
    lab: Lab,
) -> None:
    lab.rules = Rules(retention_s=14_400, user=SERVICE, partitions=2)
    lab.restart()
    events = [lab.say(Started, "a"), lab.say(Started, "b"), lab.say(Progressed, "a", percent=3)]
    mixed = Incoming(
        body=encode_batch(events), content_type=BATCH, correlation_id="a", user_id=SERVICE
    )
    bare = Incoming(body=encode_batch(events[1:2]), content_type=BATCH, user_id="x")
    await lab.process(mixed, bare)
    assert lab.told.notifications == []
    again = [message for message in lab.told.messages if message.exchange == LIFECYCLE]
    assert [message.correlation_id for message in again] == ["a", "b"]
    read = [
        decode(message.body, message.content_type, message.headers, trusted=True)
        for message in again
    ]
    assert read == [[events[0], events[2]], [events[1], events[1]]]
    await lab.process(
        *(
            Incoming(
                body=message.body,
                content_type=message.content_type,
                correlation_id=message.correlation_id,
                user_id=message.user_id,
            )
            for message in again
        )
    )
    assert lab.told.ids == ["a/1", "b/1"]
    assert (await lab.job("a")).percent == 3


async def test_the_trace_of_the_causing_event_is_passed_on(lab: Lab) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    await lab.tell(lab.say(Started, traceparent=trace))
    assert decode_notification(lab.told.notifications[0].body).traceparent == trace
