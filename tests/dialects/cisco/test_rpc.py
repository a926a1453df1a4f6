"""JSON-RPC 2.0 at /clm/rpc, request by request: in what form what is asked is answered."""

import json
from typing import Any

import pytest

from tests.dialects.cisco.clm import UNKNOWN
from tests.dialects.cisco.rpc import ALL, RECORD, STATUS, Rpc, request


async def test_names_with_the_prefix_and_other_spellings(rpc: Rpc, running: str) -> None:
    wanted = await rpc.call(STATUS, {"taskID": running})
    assert wanted["errorCode"] == 0
    assert await rpc.call(f"LicenseManager.{STATUS}", {"taskID": running}) == wanted
    assert await rpc.call(STATUS, {"job_id": running}) == wanted
    assert await rpc.call(STATUS, {"job_id": running, "taskID": running, "more": 1}) == wanted
    assert await rpc.call(STATUS, {"job_id": running, "taskID": None}) == wanted
    told = await rpc.call(STATUS, {"job_id": running, "taskID": "other"})
    assert told == (-32602, "Invalid params: job_id: another value than that of taskID")
    page = {"offset": 0, "max": -1}
    by_group = "listPersistentIDStatusByGroup"
    assert await rpc.call(by_group, {"jobgroup": "g", "pageinfo": page}) == (
        await rpc.call(by_group, {"jobGroup": "g", "pageinfo": page})
    )


@pytest.mark.parametrize("params", [{}, {"taskID": None}, {"taskID": ""}, [None], [None, None]])
async def test_a_missing_id_is_an_operation_error_of_the_progress(rpc: Rpc, params: Any) -> None:
    said = await rpc.call(STATUS, params)
    assert (said["errorCode"], said["errorName"]) == (2, "JOB_ID_MISSING")
    assert (said["overallPercentage"], said["targetIds"], said["targetProgress"]) == (0, [], [])


@pytest.mark.parametrize(
    ("method", "params", "named"),
    [
        (STATUS, {"taskID": 5}, "taskID"),
        (RECORD, {}, "job_id"),
        (RECORD, {"job_id": None}, "job_id"),
        (RECORD, [None, UNKNOWN, "more"], "at most 2 are wanted: token, job_id"),
        ("killAsyncOperation", {"taskID": UNKNOWN}, "job_id"),
        (ALL, {}, "include_all_user"),
        (ALL, {"include_all_user": "true"}, "include_all_user"),
        ("deleteAsyncOperationJobRecords", {"job_ids": UNKNOWN}, "job_ids"),
        ("deleteAsyncOperationJobRecords", {"job_ids": [UNKNOWN, 5]}, "job_ids"),
        ("setAsyncOperationJobComment", {"job_id": UNKNOWN}, "comment"),
        ("listPersistentIDStatus", {"id": UNKNOWN}, "pageinfo"),
        ("listPersistentIDStatus", {"id": UNKNOWN, "pageinfo": "all"}, "pageinfo"),
        ("listPersistentIDStatus", {"id": "x", "pageinfo": {"max": True}}, "pageinfo.max"),
        ("listPersistentIDStatus", {"id": "x", "pageinfo": {"offset": 1.5}}, "pageinfo.offset"),
        ("listPersistentIDStatus", {"id": "x", "pageinfo": {"max": 10**30}}, "pageinfo.max"),
        ("addPersistentIDStatus", {"pidStatus": {"jobId": UNKNOWN}}, "pidStatus.id"),
        ("login", {"username": "alice"}, "password"),
    ],
)
async def test_a_parameter_that_is_none_is_named(
    rpc: Rpc, method: str, params: Any, named: str
) -> None:
    code, message = await rpc.call(method, params)
    assert code == -32602
    assert message.startswith("Invalid params: ")
    assert named in message


@pytest.mark.parametrize("given", ["x", 7, 0, -1.5, 10**30, "", None, "ü"])
async def test_an_id_comes_back_as_it_was_given(rpc: Rpc, given: Any) -> None:
    said = await rpc.ask(request(STATUS, {"taskID": UNKNOWN}, id=given))
    assert said["id"] == given
    assert type(said["id"]) is type(given)
    assert said["result"]["errorCode"] == 1


@pytest.mark.parametrize(
    ("content", "code", "id_"),
    [
        (b"", -32700, None),
        (b"{", -32700, None),
        (b'"\xff"', -32700, None),
        (b"[" * 100_000, -32700, None),
        (b"[]", -32600, None),
        (b"1", -32600, None),
        (b"null", -32600, None),
        (b"{}", -32600, None),
        (json.dumps(request(STATUS, jsonrpc="1.0")).encode(), -32600, 1),
        (json.dumps(request(1)).encode(), -32600, 1),
        (json.dumps(request(STATUS, "x")).encode(), -32600, 1),
        (json.dumps(request(STATUS, id=True)).encode(), -32600, None),
        (json.dumps(request(STATUS, id=[1])).encode(), -32600, None),
        (json.dumps(request("stop", {})).encode(), -32601, 1),
        (json.dumps(request("LicenseManager.LicenseManager.login")).encode(), -32601, 1),
        (json.dumps([request(STATUS)] * 51).encode(), -32600, None),
    ],
)
async def test_what_is_no_request_is_answered_as_json_rpc_says(
    rpc: Rpc, content: bytes, code: int, id_: Any
) -> None:
    response = await rpc.post(content)
    assert response.status_code == 200
    said = response.json()
    assert (said["jsonrpc"], said["id"], said["error"]["code"]) == ("2.0", id_, code)
    assert "result" not in said


async def test_requests_of_a_batch_take_nothing_from_each_other(rpc: Rpc, running: str) -> None:
    quiet = request("setAsyncOperationJobComment", {"job_id": running, "comment": "quiet"})
    del quiet["id"]
    good = request(RECORD, {"job_id": running}, id="good")
    said = await rpc.ask(1, quiet, request("x", id=2), good, [], request(STATUS, 5, id=3))
    assert [(one["id"], one.get("error", {}).get("code")) for one in said] == [
        (None, -32600),
        (2, -32601),
        ("good", None),
        (None, -32600),
        (3, -32600),
    ]
    assert said[2]["result"]["comment"] == "quiet"


async def test_notifications_are_carried_out_and_not_answered(rpc: Rpc, running: str) -> None:
    asked = request("setAsyncOperationJobComment", {"job_id": running, "comment": "one"})
    del asked["id"]
    bad = {**asked, "method": "nothing"}
    for content in (asked, bad, [asked, bad]):
        response = await rpc.post(json.dumps(content))
        assert (response.status_code, response.content) == (204, b"")
    assert (await rpc.call(RECORD, {"job_id": running}))["comment"] == "one"


async def test_a_batch_of_fifty_is_served(rpc: Rpc) -> None:
    asked = [request(STATUS, {"taskID": f"{UNKNOWN}-{n}"}, id=n) for n in range(50)]
    said = await rpc.ask(*asked)
    assert [one["id"] for one in said] == list(range(50))
    assert {one["result"]["errorName"] for one in said} == {"JOB_ID_NOT_FOUND"}
