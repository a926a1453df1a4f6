"""A job, a list and an error, as CloudStack's API answers with them. Pure mappings."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

from api.dialects.cloudstack.document import JSON, XML, json_document, xml_document
from api.dialects.cloudstack.parameters import Parameters
from api.problems import KINDS, Problem
from broker.cloudstack import (
    DOMAIN,
    DOMAIN_ID,
    JOB_STATUS,
    JobStatus,
    error_text,
    id_of,
    job_result,
    process_status,
    result_code,
)
from jobcast.job import Job

Members = Mapping[str, Any]

COMMANDS: Final = frozenset({"queryAsyncJobResult", "listAsyncJobs"})
ERROR_ROOT: Final = "errorresponse"
NO_STORE: Final = {"Cache-Control": "no-store"}

AUTHENTICATION: Final = 401
MALFORMED: Final = 430
PARAMETER: Final = 431
UNSUPPORTED: Final = 432
INTERNAL: Final = 530
ACCOUNT: Final = 531
CODES: Final[Mapping[str, int]] = {
    "unauthorized": AUTHENTICATION,
    "forbidden": AUTHENTICATION,
    "method-not-allowed": 405,
    "too-many-requests": 429,
    "bad-request": MALFORMED,
    "too-large": MALFORMED,
    "invalid-parameter": PARAMETER,
    "job-not-found": PARAMETER,
    "job-expired": PARAMETER,
    "job-deleted": PARAMETER,
    "unavailable": 503,
}
"""The HTTP status of a problem, which is its `errorcode`; any other is an internal error."""
CAUSES: Final[Mapping[int, int]] = {PARAMETER: 4350, INTERNAL: 4250, ACCOUNT: 4365}
ANY_CAUSE: Final = 9999
GONE: Final = frozenset({"job-not-found", "job-expired", "job-deleted"})


def root_of(command: str) -> str:
    return f"{command.lower()}response" if command in COMMANDS else ERROR_ROOT


def answer(parameters: Parameters, members: Members) -> Response:
    """200, in the format that was asked for."""
    return _response(parameters, members, 200, {})


def refused(parameters: Parameters, problem: Problem) -> Response:
    """A problem in CloudStack's words. A member `errorcode` says more than the problem's name."""
    code = problem.members.get("errorcode") or CODES.get(problem.name, INTERNAL)
    text = "jobid: there is no such job" if problem.name in GONE else problem.detail
    text = text or KINDS[problem.name].title
    members: dict[str, Any] = {"uuidList": [], "errorcode": code}
    if code != AUTHENTICATION:
        members["cserrorcode"] = CAUSES.get(code, ANY_CAUSE)
    headers = {**problem.headers, "X-Description": text}
    return _response(parameters, {**members, "errortext": text}, code, headers)


def _response(
    parameters: Parameters, members: Members, status: int, headers: Mapping[str, str]
) -> Response:
    root = root_of(parameters.command)
    made = json_document if parameters.json else xml_document
    kind = JSON if parameters.json else XML
    return Response(made(root, members), status, {**NO_STORE, **headers, "Content-Type": kind})


def listed(jobs: Sequence[Members], total: int) -> Members:
    """What there is none of is not told."""
    told = {"count": total} if total else {}
    return {**told, "asyncjobs": jobs} if jobs else told


def job_members(job: Job, *, json: bool) -> Members:
    """One job. In XML a failure is told as text, as the guide has it."""
    kind, result = job_result(job) or (None, None)
    if not json and JOB_STATUS[job.status] is JobStatus.FAILED:
        kind, result = "text", error_text(job)
    resource, account = job.resource, id_of(job.owner)
    members = {
        "accountid": account,
        "account": job.owner,
        "domainid": DOMAIN_ID,
        "domainpath": DOMAIN,
        "userid": account,
        "cmd": job.operation,
        "jobstatus": int(JOB_STATUS[job.status]),
        "jobprocstatus": process_status(job),
        "jobresultcode": result_code(job),
        "jobresulttype": kind,
        "jobresult": result,
        "jobinstancetype": resource.type if resource is not None else None,
        "jobinstanceid": resource.id if resource is not None else None,
        "created": date(job.created_at),
        "completed": date(job.ended_at),
        "jobid": job.id,
    }
    return {name: value for name, value in members.items() if value is not None}


def date(text: str | None) -> str | None:
    """Our time as CloudStack writes it: whole seconds, and an offset without a colon."""
    return None if text is None else f"{text[:19]}+0000"
