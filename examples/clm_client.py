"""A client of Cisco License Manager's asynchronous-job functions, as jobcast serves them.

    with LicenseManager("http://127.0.0.1:8080", "alice", token) as manager:
        progress = manager.getAsyncOperationStatus("backup-7")
        if progress.errorCode == JOB_ID_NOT_FOUND:  # over: the record tells how
            print(manager.getAsyncOperationJobRecords("backup-7"))

The functions and the members of the objects have the guide's names. An operation error is in the
result (`errorCode` is not SUCCESS); RemoteException and AuthenticationException are raised. One
file, on httpx alone: copy it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import count
from typing import Any, Final, Self, TypeVar

import httpx

SUCCESS, JOB_ID_NOT_FOUND, JOB_ID_MISSING = 0, 1, 2
JOB_ALREADY_COMPLETE, KILL_NOT_SUPPORTED, INVALID_PAGINATION = 4, 5, 6
DUPLICATE_ID, JOB_RUNNING, TOO_MANY_RECORDS, INTERNAL = 7, 8, 9, 99

TIMEOUT_S: Final = 45.0

T = TypeVar("T")


class ClmError(Exception):
    """The call itself failed. `code`: of JSON-RPC."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


class RemoteException(ClmError):
    """A part of the service is away, or too much was asked of it: try again later."""


class AuthenticationException(ClmError):
    """The token is not good, or its user may not do this: log in again."""


EXCEPTIONS: Final = {-32000: RemoteException, -32001: AuthenticationException}


@dataclass(frozen=True)
class UserToken:
    token: str
    username: str
    timeout: int  # seconds
    sslEnabled: bool


@dataclass(frozen=True)
class Status:
    errorCode: int
    errorName: str
    errorMessage: str


@dataclass(frozen=True)
class IDStatusItem(Status):
    id: str


@dataclass(frozen=True)
class IDStatus(Status):
    items: tuple[IDStatusItem, ...]


@dataclass(frozen=True)
class ProgressStatus(Status):
    jobId: str | None
    overallPercentage: int
    targetIds: tuple[str, ...]
    targetProgress: tuple[int, ...]


@dataclass(frozen=True)
class ClmJob:
    jobId: str
    userName: str
    operation: str
    jobGroup: str | None
    state: str  # running, complete, incomplete
    submitTime: str
    startTime: str | None
    completeTime: str | None
    comment: str | None
    errorCode: int
    errorMessage: str
    result: Any


@dataclass(frozen=True)
class ClmJobStatus(Status):
    jobs: tuple[ClmJob, ...]


@dataclass(frozen=True)
class PersistentIDStatus:
    jobId: str
    id: str
    errorCode: int = SUCCESS
    errorMessage: str = ""
    jobGroup: str | None = None
    timestamp: str | None = None  # the service's


@dataclass(frozen=True)
class PersistentIDStatusPagingInfo(Status):
    total: int
    offset: int
    max: int
    items: tuple[PersistentIDStatus, ...]


@dataclass(frozen=True)
class Pagination:
    offset: int = 0
    max: int = -1  # all


class LicenseManager:
    """Logged in, for the `with` block."""

    def __init__(self, url: str, username: str, password: str, *, verify: Any = True) -> None:
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_S, verify=verify)
        self._ids = count(1)
        self._login = {"username": username, "password": password}
        self.token: UserToken | None = None

    def __enter__(self) -> Self:
        self.token = self.login(**self._login)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def login(self, username: str, password: str) -> UserToken:
        return _made(UserToken, self.call("login", username=username, password=password))

    def addPersistentIDStatus(self, pidStatus: PersistentIDStatus) -> PersistentIDStatus | Status:
        """What was stored; a Status if it was not."""
        given = {name: value for name, value in vars(pidStatus).items() if value is not None}
        result = self.call("addPersistentIDStatus", pidStatus=given)
        if "id" in result:
            return _made(PersistentIDStatus, result)
        return _made(Status, result)

    def deleteAsyncOperationJobRecords(self, job_ids: Sequence[str]) -> IDStatus:
        result = self.call("deleteAsyncOperationJobRecords", job_ids=list(job_ids))
        return _made(IDStatus, result, items=_all(IDStatusItem, result["items"]))

    def getAsyncOperationJobRecords(self, job_id: str) -> ClmJob | None:
        result = self.call("getAsyncOperationJobRecords", job_id=job_id)
        return None if result is None else _made(ClmJob, result)

    def getAsyncOperationStatus(self, taskID: str) -> ProgressStatus:
        result = self.call("getAsyncOperationStatus", taskID=taskID)
        targets = {name: tuple(result[name]) for name in ("targetIds", "targetProgress")}
        return _made(ProgressStatus, result, **targets)

    def killAsyncOperation(self, job_id: str) -> Status:
        return _made(Status, self.call("killAsyncOperation", job_id=job_id))

    def listAllAsyncOperationJobRecords(self, include_all_user: bool) -> ClmJobStatus:
        return self._jobs("listAllAsyncOperationJobRecords", include_all_user)

    def listRunningAsyncOperationJobRecords(self, include_all_user: bool = False) -> ClmJobStatus:
        return self._jobs("listRunningAsyncOperationJobRecords", include_all_user)

    def listPersistentIDStatus(self, id: str, pageinfo: Pagination) -> PersistentIDStatusPagingInfo:
        return _page(self.call("listPersistentIDStatus", id=id, pageinfo=vars(pageinfo)))

    def listPersistentIDStatusByGroup(
        self, jobGroup: str, pageinfo: Pagination
    ) -> PersistentIDStatusPagingInfo:
        named = {"jobGroup": jobGroup, "pageinfo": vars(pageinfo)}
        return _page(self.call("listPersistentIDStatusByGroup", **named))

    def setAsyncOperationJobComment(self, job_id: str, comment: str) -> Status:
        named = {"job_id": job_id, "comment": comment}
        return _made(Status, self.call("setAsyncOperationJobComment", **named))

    def call(self, method: str, **params: Any) -> Any:
        """The result of any function, as JSON. Raises ClmError."""
        return _result(self._post(self._request(method, params)))

    def batch(self, *calls: tuple[str, Mapping[str, Any]]) -> list[Any]:
        """The results of several calls in one request, in order; a ClmError where one failed."""
        requests = [self._request(method, params) for method, params in calls]
        answers = self._post(requests)
        if isinstance(answers, dict):
            _result(answers)  # refused as a whole
        by_id = {answer["id"]: answer for answer in answers}
        return [_result_or_error(by_id[request["id"]]) for request in requests]

    def _jobs(self, method: str, include_all_user: bool) -> ClmJobStatus:
        result = self.call(method, include_all_user=include_all_user)
        return _made(ClmJobStatus, result, jobs=_all(ClmJob, [i["job"] for i in result["items"]]))

    def _request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        token = {} if self.token is None else {"token": vars(self.token)}
        named = {**token, **params}
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": named}

    def _post(self, content: Any) -> Any:
        try:
            response = self._http.post("/clm/rpc", json=content)
        except httpx.TransportError as error:
            raise RemoteException(-32000, f"no answer: {error}") from error
        if response.headers.get("Content-Type") != "application/json":
            raise RemoteException(-32000, f"HTTP {response.status_code}: is this jobcast?")
        return response.json()


def _result(answer: Mapping[str, Any]) -> Any:
    if "error" in answer:
        code, message = answer["error"]["code"], answer["error"]["message"]
        raise EXCEPTIONS.get(code, ClmError)(code, message)
    return answer["result"]


def _result_or_error(answer: Mapping[str, Any]) -> Any:
    try:
        return _result(answer)
    except ClmError as error:
        return error


def _made(kind: type[T], said: Mapping[str, Any], **inner: Any) -> T:
    """The object, of those members that it has: a newer service may say more."""
    told = {**said, **inner}
    return kind(**{one.name: told[one.name] for one in fields(kind) if one.name in told})  # type: ignore[arg-type] # a dataclass


def _all(kind: type[T], said: Sequence[Mapping[str, Any]]) -> tuple[T, ...]:
    return tuple(_made(kind, one) for one in said)


def _page(result: Mapping[str, Any]) -> PersistentIDStatusPagingInfo:
    items = _all(PersistentIDStatus, result["items"])
    return _made(PersistentIDStatusPagingInfo, result, items=items)
