import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.notices import completion, job_topic, object_topic, sequence_number, topic_part
from jobcast.job import FINAL, Job, Status
from jobcast.names import is_owner
from jobcast.notification import Notice

OWNER = st.text("aA0._:~@-", min_size=1, max_size=12)


def notice(status: Status, owner: str = "alice", cursor: str = "1700000000000-3") -> Notice:
    job = Job(id="j~1", owner=owner, status=status, version=7, created_at="", updated_at="")
    return Notice(job=job, snapshot=b"{}", event=status.value, cursor=cursor)


@pytest.mark.parametrize(
    ("owner", "topic"),
    [
        ("alice", "alice.1job"),
        ("al-ice9", "al-ice9.1job"),
        ("a.b", "a_2Eb.1job"),
        ("a_2Eb", "a_5F2Eb.1job"),
        ("a@b:c~d", "a_40b_3Ac_7Ed.1job"),
    ],
)
def test_a_topic_bears_its_owners_name(owner: str, topic: str) -> None:
    assert job_topic(owner) == topic
    assert f"{object_topic(owner)}job" == topic


@given(OWNER, OWNER)
def test_no_two_owners_share_a_topic_and_none_leads_to_anothers(one: str, other: str) -> None:
    assert (topic_part(one) == topic_part(other)) == (one == other)
    assert job_topic(one).startswith(f"{topic_part(other)}.") == (one == other)
    assert set(topic_part(one)).isdisjoint(".*#/")


@pytest.mark.parametrize("status", Status)
def test_only_an_end_is_told(status: Status) -> None:
    assert (completion(notice(status)) is not None) == (status in FINAL)


def test_a_notice_names_the_job_and_says_nothing_of_it() -> None:
    told = completion(notice(Status.FAILED, "a.b"))
    assert told is not None
    assert (told.exchange, told.routing_key) == ("amq.topic", "a_2Eb.1job")
    assert (told.body, told.content_type, told.mandatory) == (b"", "", False)
    assert told.message_id == "a.b/j~1/7"
    number = sequence_number("1700000000000-3")
    assert told.headers == {
        "notification-type": "job-completion",
        "job-uri": "/api/jobs/j~1",
        "session-sequence-nr": number,
        "global-sequence-nr": number,
    }
    assert told == completion(notice(Status.FAILED, "a.b"))


def test_the_longest_owner_has_a_topic_that_rabbitmq_takes() -> None:
    owner = "_" * 64
    assert is_owner(owner)
    assert len(job_topic(owner)) <= 255


def test_the_number_rises_with_the_place_in_the_feed_and_is_exact_in_json() -> None:
    now, then = "170000000000", "2199000000000"
    cursors = ["", "0-0", f"{now}0-0", f"{now}0-1", f"{now}1-0", f"{then}-9"]
    numbers = [sequence_number(cursor) for cursor in cursors]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == len(cursors) - 1
    assert numbers[-1] < 2**53
