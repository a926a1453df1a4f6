"""What the functions are given, by the guide's names and in its order; `token` comes before."""

from typing import Annotated, Final

from msgspec import Meta, Struct, field

from jobcast.bounds import INT_MAX, Group, Integer, Target, Text

IDS_MAX: Final = 1_000

Whole = Annotated[int, Meta(ge=-INT_MAX - 1, le=INT_MAX)]


class Login(Struct):
    username: str
    password: str


class JobId(Struct):
    job_id: str


class TaskId(Struct):
    """That it is missing is an operation error."""

    task_id: str | None = field(name="taskID", default=None)


class JobIds(Struct):
    job_ids: Annotated[list[str], Meta(max_length=IDS_MAX)]


class JobComment(Struct):
    job_id: str
    comment: Text


class AllUser(Struct):
    include_all_user: bool


class AllUserOrOwn(Struct):
    include_all_user: bool = False


class Pagination(Struct):
    """-1: all from `offset` on."""

    offset: Whole = 0
    max: Whole = -1


class OfJob(Struct):
    id: str
    pageinfo: Pagination


class OfGroup(Struct):
    job_group: Group = field(name="jobGroup")
    pageinfo: Pagination


class PersistentIDStatus(Struct, rename="camel"):
    """The time is the service's own, and not read. Without a group it is the job's."""

    job_id: str
    id: Target
    error_code: Integer = 0
    error_message: Text | None = None
    job_group: Group | None = None


class PidStatus(Struct):
    pid_status: PersistentIDStatus = field(name="pidStatus")
