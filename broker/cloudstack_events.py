"""CloudStack's messages on its event bus, told of our jobs (docs/dialects.md).

Owns their form. Promises: one for each notification, the same to the byte on a repeat, with a
routing key that AMQP can carry. Pure.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from broker.cloudstack import (
    DOMAIN,
    JOB_STATUS,
    JobStatus,
    error_text,
    id_of,
    process_status,
    result_code,
)
from jobcast.job import NO_RESULT, Job
from jobcast.message import Message
from jobcast.notification import Notice, message_id

SOURCE: Final = "management-server"
CATEGORY: Final = "AsyncJobEvent"
NOTHING: Final = "*"
UNKNOWN: Final = "unknown"
PART_MAX: Final = 100
"""Bytes of the resource's type and of its id in a routing key, which has at most 255."""
RESPONSES: Final = "org.apache.cloudstack.api.response"


def told_on(exchange: str) -> Callable[[Notice], Message]:
    """What says of each change of status what CloudStack would say on this topic exchange."""

    def tell(notice: Notice) -> Message:
        job = notice.job
        return Message(
            exchange=exchange,
            routing_key=routing_key(job),
            body=msgspec.json.encode(body(job)),
            message_id=message_id(job),
            content_type="text/plain",
        )

    return tell


def routing_key(job: Job) -> str:
    """`management-server.AsyncJobEvent.<submit|update|complete>.<type>.<id>` of its resource."""
    resource = job.resource
    kind, named = (resource.type, resource.id) if resource is not None else (UNKNOWN, "")
    return ".".join((SOURCE, CATEGORY, event_of(job), _part(kind), _part(named)))


def event_of(job: Job) -> str:
    if job.ended:
        return "complete"
    return "submit" if job.version == 1 else "update"


def _part(text: str) -> str:
    """A dot would begin a new part, an empty one cannot be bound to."""
    cut = text.replace(".", "-").encode("utf-8", "replace")[:PART_MAX]
    return cut.decode("utf-8", "ignore") or NOTHING


def body(job: Job) -> dict[str, Any]:
    """The numbers are strings, as CloudStack has them."""
    resource, account = job.resource, id_of(job.owner)
    return {
        "jobId": job.id,
        "status": JOB_STATUS[job.status].name,
        "resultCode": str(result_code(job)),
        "processStatus": str(process_status(job)),
        "jobResult": _result(job),
        "command": job.operation,
        "commandEventType": UNKNOWN,
        "cmdInfo": {},
        "user": account,
        "account": account,
        "instanceType": resource.type if resource is not None else UNKNOWN,
        "instanceUuid": resource.id if resource is not None else "",
        "username": job.owner,
        "accountname": job.owner,
        "domainname": DOMAIN,
    }


def _result(job: Job) -> dict[str, Any] | None:
    """The members of what CloudStack calls a response, its class and the name of the object; None
    where there is no object."""
    if not job.ended:
        return None
    if JOB_STATUS[job.status] is JobStatus.FAILED:
        failure = {"errorcode": result_code(job), "errortext": error_text(job)}
        return failure | {"class": f"{RESPONSES}.ExceptionResponse", "object": None}
    if job.result == NO_RESULT:
        return {"success": True, "class": f"{RESPONSES}.SuccessResponse", "object": None}
    result = msgspec.json.decode(job.result)
    if not isinstance(result, dict):
        return None
    name = next(iter(result)) if len(result) == 1 else None
    members = result[name] if name is not None and isinstance(result[name], dict) else result
    named = name if members is not result else None
    return members | {"class": job.operation, "object": named}
