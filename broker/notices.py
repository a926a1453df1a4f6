"""What HMC clients are told at RabbitMQ: the topics of each user, and the notice of a job's end.

Pure. Owns the names of the topics, on RabbitMQ's own exchange `amq.topic`, where `/topic/NAME` of
STOMP leads. Promises: no user's topic begins with another's; a repeat of a notice is equal to the
first. A notice says that a job has ended and no more: its receiver reads the job.
"""

import re
from typing import Final

from jobcast.message import Message
from jobcast.notification import APP_ID, PRIORITY, Notice, message_id

TOPICS: Final = "amq.topic"
COMPLETION: Final = "job-completion"
JOBS: Final = "/api/jobs/"
ENTRIES_PER_MS: Final = 4_096
"""So many places a millisecond of a feed is given; the numbers stay exact in JSON until 2039."""

_OTHER: Final = re.compile(rb"[^A-Za-z0-9-]")


def topic_part(owner: str) -> str:
    """The owner's name as the first word of a topic: every byte outside `A-Z a-z 0-9 -` is written
    `_XX`, the underscore itself as well."""
    return _OTHER.sub(lambda byte: b"_%02X" % byte[0][0], owner.encode()).decode()


def object_topic(owner: str) -> str:
    """Nothing is ever sent there: clients want to know a name."""
    return f"{topic_part(owner)}.1"


def job_topic(owner: str) -> str:
    return f"{topic_part(owner)}.1job"


def job_uri(job_id: str) -> str:
    return f"{JOBS}{job_id}"


def completion(notice: Notice) -> Message | None:
    """What is sent besides the notification when a job has ended."""
    job = notice.job
    if not job.ended:
        return None
    number = sequence_number(notice.cursor)
    return Message(
        exchange=TOPICS,
        routing_key=job_topic(job.owner),
        body=b"",
        message_id=message_id(job),
        content_type="",
        correlation_id=job.id,
        headers={
            "notification-type": COMPLETION,
            "job-uri": job_uri(job.id),
            "session-sequence-nr": number,
            "global-sequence-nr": number,
        },
        priority=PRIORITY,
        app_id=APP_ID,
    )


def sequence_number(cursor: str) -> int:
    """A number that rises with the place in the owner's feed; it has gaps."""
    ms, _, place = cursor.partition("-")
    return int(ms or 0) * ENTRIES_PER_MS + min(int(place or 0), ENTRIES_PER_MS - 1)
