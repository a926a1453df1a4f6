"""The CloudStack dialect's pure parts: signatures, parameters, answers in JSON and XML."""

import base64
import hashlib
import hmac
from typing import Any, Final
from xml.etree import ElementTree

import msgspec
import pytest
from cs import CloudStack
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from api.dialects.cloudstack.answers import answer, job_members, listed, refused
from api.dialects.cloudstack.document import element_name, xml_document
from api.dialects.cloudstack.parameters import Parameters, Window
from api.dialects.cloudstack.signature import has_expired, is_signed, moment
from api.problems import KINDS, Problem
from broker.cloudstack import DOMAIN_ID, id_of
from jobcast.job import Resource, Status
from tests.unit.broker.test_cloudstack import CANCELED, FAILED, RUNNING, SUCCEEDED

SECRET: Final = "the secret of alice, long enough"
NOW: Final = 1_795_222_800.0  # 2026-11-21T01:00:00Z
QUERY: Final = Parameters({"command": "queryAsyncJobResult", "response": "json"})


def signed(text: str) -> str:
    digest = hmac.new(SECRET.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


GIVEN: Final = {"command": "listAsyncJobs", "apiKey": "K y", "Zone": "~*_.-", "a": "é"}


@pytest.mark.parametrize(
    "text",
    [
        "zone=~*_.-&a=%c3%a9&apikey=k%20y&command=listasyncjobs",
        "zone=%7e*_.-&a=%c3%a9&apikey=k%20y&command=listasyncjobs",
        "a=%c3%a9&apikey=k%20y&command=listasyncjobs&zone=~*_.-",
        "a=%c3%a9&apikey=k%20y&command=listasyncjobs&zone=%7e*_.-",
    ],
    ids=["as the server, client's ~", "as the server", "as the guide", "as the guide, Java's ~"],
)
def test_a_signature_counts_in_both_orders_and_with_both_forms_of_a_tilde(text: str) -> None:
    assert is_signed(GIVEN, signed(text), SECRET)
    assert is_signed(GIVEN | {"sIgnature": "x"}, signed(text), SECRET)
    assert not is_signed(GIVEN | {"more": ""}, signed(text), SECRET)
    assert not is_signed(GIVEN, signed(text), SECRET + "x")
    assert not is_signed(GIVEN, signed(text)[:-1], SECRET)


@pytest.mark.parametrize("signature", ["", "é", "=" * 28, " "])
def test_what_is_no_signature_is_none(signature: str) -> None:
    assert not is_signed(GIVEN, signature, SECRET)
    assert not is_signed({}, signature, "")


values = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(st.text("abcXYZ[0].", min_size=1), values, max_size=5))
def test_whatever_the_client_signs_counts(parameters: dict[str, str]) -> None:
    data = dict(parameters)
    CloudStack("http://localhost", "key", SECRET)._sign(data)  # type: ignore[no-untyped-call] # theirs
    assert is_signed(parameters, data["signature"], SECRET)


@pytest.mark.parametrize(
    ("version", "expires", "expired"),
    [
        (None, None, False),
        ("2", "2020-01-01T00:00:00Z", False),
        ("3", None, True),
        ("3", "", True),
        ("3", "soon", True),
        ("3", "2026-11-21T01:00:01", True),
        ("3", "0001-01-01T00:00:00+23:59", True),
        ("3", "2026-11-21T00:59:59+0000", True),
        ("3", "2026-11-21T01:00:01+0000", False),
        ("3", "2026-11-21T02:00:01+0100", False),
        ("3", "2026-11-21T02:00:01+01:00", False),
        ("3", "2026-11-21T01:00:00.500Z", False),
        ("3", "9999-12-31T23:59:59-2359", False),
    ],
)
def test_when_a_request_has_expired(
    version: str | None, expires: str | None, expired: bool
) -> None:
    assert has_expired(version, expires, NOW) is expired


def test_a_moment_is_in_seconds() -> None:
    assert moment("2026-11-21T01:00:00+0000") == NOW


def test_names_are_read_in_any_case_but_two() -> None:
    read = Parameters({"JobID": "j", "Command": "x", "Response": "json", "empty": ""})
    assert read.get("jobid") == "j"
    assert (read.command, read.json) == ("", False)
    assert read.get("empty") is None
    assert Parameters({"response": "JSON"}).json
    assert not Parameters({"response": "xml"}).json


def test_the_query_beats_the_form() -> None:
    read = Parameters({"jobid": "q", "a": "1"}, {"jobId": "f", "a": "2", "b": "3"})
    assert (read.get("jobid"), read.get("a"), read.get("b")) == ("q", "1", "3")
    assert read.given == {"jobid": "q", "jobId": "f", "a": "1", "b": "3"}


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ({}, Window(0, 500)),
        ({"page": "1", "pagesize": "500"}, Window(0, 500)),
        ({"page": "3", "pageSize": "20"}, Window(40, 20)),
        ({"page": "0", "pagesize": "20"}, Window(0, 20)),
        ({"page": "-7", "pagesize": "20"}, Window(0, 20)),
        ({"pagesize": "-1"}, Window(0, 10_000)),
        ({"page": "2147483647", "pagesize": "500"}, Window(2147483646 * 500, 500)),
    ],
)
def test_the_part_of_a_list(text: dict[str, str], window: Window) -> None:
    assert Parameters(text).window() == window


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ({"page": "1"}, "pagesize"),
        ({"pagesize": "20"}, "page:"),
        ({"page": "1", "pagesize": "501"}, "pagesize: 1 to 500"),
        ({"page": "1", "pagesize": "0"}, "pagesize"),
        ({"page": "1", "pagesize": "-2"}, "pagesize"),
        ({"page": "1", "pagesize": "-1"}, "page: none with"),
        ({"page": "one", "pagesize": "1"}, "page: an integer"),
        ({"page": "2147483648", "pagesize": "1"}, "page: an integer"),
        ({"page": "9" * 5_000, "pagesize": "1"}, "page: an integer"),
        ({"page": "٣", "pagesize": "1"}, "page: an integer"),
    ],
)
def test_a_part_that_there_cannot_be_is_refused(text: dict[str, str], said: str) -> None:
    with pytest.raises(Problem) as raised:
        Parameters(text).window()
    assert said in str(raised.value.detail)
    assert refused(QUERY, raised.value).status_code == 431


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("2026-11-21", NOW - 3600),
        ("2026-11-21 01:00:00", NOW),
        ("2026-11-21T01:00:00+0000", NOW),
        ("2026-11-21T02:00:00+0100", NOW),
    ],
)
def test_a_start_date(text: str, since: float) -> None:
    assert Parameters({"startDate": text}).since("startdate") == since
    with pytest.raises(Problem, match="startdate"):
        Parameters({"startDate": text + "x"}).since("startdate")


def test_a_job_under_way() -> None:
    told = replace(RUNNING, resource=Resource("VirtualMachine", "v1"))
    account = id_of("alice")
    assert job_members(told, json=True) == {
        "accountid": account,
        "account": "alice",
        "domainid": DOMAIN_ID,
        "domainpath": "ROOT",
        "userid": account,
        "cmd": "deploy",
        "jobstatus": 0,
        "jobprocstatus": 1,
        "jobresultcode": 0,
        "jobinstancetype": "VirtualMachine",
        "jobinstanceid": "v1",
        "created": "2026-11-21T01:00:00+0000",
        "jobid": "j",
    }


ENDS: Final = [replace(end, ended_at=RUNNING.created_at) for end in (SUCCEEDED, FAILED, CANCELED)]


@pytest.mark.parametrize("end", ENDS, ids=[end.status for end in ENDS])
@pytest.mark.parametrize("json", [True, False], ids=["json", "xml"])
def test_an_end_has_all_that_the_clients_need(end: Any, json: bool) -> None:
    told = job_members(end, json=json)
    assert {"jobid", "jobstatus", "jobresultcode", "jobresulttype", "jobresult"} <= told.keys()
    assert told["completed"] == "2026-11-21T01:00:00+0000"
    assert (told["jobstatus"] == 1) is (end.status is Status.SUCCEEDED)
    assert (told["jobresultcode"] == 0) is (end.status is Status.SUCCEEDED)
    assert type(told["jobstatus"]) is int
    if json and told["jobstatus"] == 2:
        assert told["jobresulttype"] == "object"
        assert set(told["jobresult"]) == {"errorcode", "errortext"}


def shown(element: ElementTree.Element) -> Any:
    """An element's text, or what is in it."""
    found: dict[str, Any] = {}
    for child in element:
        found.setdefault(child.tag, []).append(shown(child))
    return {name: told[0] if len(told) == 1 else told for name, told in found.items()} or (
        element.text or ""
    )


def read_xml(body: bytes) -> tuple[str, Any]:
    assert body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')
    root = ElementTree.fromstring(body)  # noqa: S314 - our own
    assert root.get("cloud-stack-version")
    return root.tag, shown(root)


def of(members: Any) -> tuple[str, Any]:
    return read_xml(bytes(answer(Parameters({"command": "queryAsyncJobResult"}), members).body))


def test_the_samples_of_the_guide() -> None:
    """Pending, failed and succeeded, as the guide shows them, whatever the order."""
    root, told = of(job_members(RUNNING, json=False))
    assert root == "queryasyncjobresultresponse"
    assert {"jobid": "j", "jobstatus": "0", "jobprocstatus": "1"}.items() <= told.items()
    _, told = of(job_members(replace(FAILED, status_code=551), json=False))
    failed = {"jobid": "j", "jobstatus": "2", "jobprocstatus": "0", "jobresultcode": "551"}
    failed |= {"jobresulttype": "text", "jobresult": "no space"}
    assert failed.items() <= told.items()
    result = Raw(b'{"virtualmachine":{"id":450,"name":"i-2-450-VM","haenable":false}}')
    _, told = of(job_members(replace(SUCCEEDED, result=result), json=False))
    machine = {"id": "450", "name": "i-2-450-VM", "haenable": "false"}
    done: dict[str, Any] = {
        "jobid": "j",
        "jobstatus": "1",
        "jobprocstatus": "0",
        "jobresultcode": "0",
    }
    done |= {"jobresulttype": "object", "jobresult": {"virtualmachine": machine}}
    assert done.items() <= told.items()


def test_a_plain_success_in_xml() -> None:
    assert of(job_members(SUCCEEDED, json=False))[1]["jobresult"] == {"success": "true"}


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"a": None, "b": [1, 2.5, True]}, {"b": ["1", "2.5", "true"]}),
        ({"nic": [{"id": 1}, {"id": 2}]}, {"nic": [{"id": "1"}, {"id": "2"}]}),
        ({"a": [[1, 2], [3]]}, {"a": [{"item": ["1", "2"]}, {"item": "3"}]}),
        ([1, "x"], {"item": ["1", "x"]}),
        ("<&>\"'\r\n\t", "<&>\"'\r\n\t"),
        ("a\x00b\x0b\x1f\ufffe\uffffc", "a\ufffdb\ufffd\ufffd\ufffd\ufffdc"),
        ("𝄞 é", "𝄞 é"),
        ({"a b": 1, "1": 2, "": 3, "{x}y": 4, "é": 5, "a:b": 6, "<": 7},
         {"a_x0020_b": "1", "_x0031_": "2", "_": "3", "_x007B_x_x007D_y": "4", "_x00E9_": "5",
          "a_x003A_b": "6", "_x003C_": "7"}),
        (2**64 - 1, str(2**64 - 1)),
    ],
)  # fmt: skip
def test_any_result_is_xml(result: Any, told: Any) -> None:
    job = replace(SUCCEEDED, result=Raw(msgspec.json.encode(result)))
    assert of(job_members(job, json=False))[1]["jobresult"] == told


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | values,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(values, inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_every_result_is_read_by_an_xml_parser(result: Any) -> None:
    raw = Raw(msgspec.json.encode(result))
    assert read_xml(xml_document("r", {"jobresult": raw}))[0] == "r"


@given(values)
def test_every_name_can_be_one(text: str) -> None:
    assert read_xml(xml_document(element_name(text), {}))[0] == element_name(text)


def test_a_result_as_deep_as_there_are_any_is_xml() -> None:
    raw = Raw(b'{"a":' * 100 + b"1" + b"}" * 100)
    assert xml_document("r", {"jobresult": raw}).count(b"<a>") == 100


def test_lists_in_both_formats() -> None:
    one = job_members(RUNNING, json=True)
    assert listed([one], 7) == {"count": 7, "asyncjobs": [one]}
    assert listed([], 7) == {"count": 7}
    assert listed([], 0) == {}
    root, told = read_xml(xml_document("listasyncjobsresponse", listed([one, one], 2)))
    assert root == "listasyncjobsresponse"
    assert told["count"] == "2"
    assert [job["jobid"] for job in told["asyncjobs"]] == ["j", "j"]


def test_an_error_in_both_formats() -> None:
    problem = Problem("invalid-parameter", "jobid: a value is wanted")
    told = refused(QUERY, problem)
    assert told.status_code == 431
    assert told.headers["content-type"] == "application/json; charset=UTF-8"
    assert told.headers["x-description"] == "jobid: a value is wanted"
    error = {"errorcode": 431, "cserrorcode": 4350, "errortext": "jobid: a value is wanted"}
    assert msgspec.json.decode(told.body) == {
        "queryasyncjobresultresponse": {"uuidList": [], **error}
    }
    told = refused(Parameters({"command": "queryAsyncJobResult"}), problem)
    assert told.headers["content-type"] == "text/xml; charset=UTF-8"
    assert read_xml(bytes(told.body)) == (
        "queryasyncjobresultresponse",
        {name: str(value) for name, value in error.items()},
    )


@pytest.mark.parametrize("name", KINDS)
def test_every_problem_is_an_error_of_cloudstack(name: str) -> None:
    told = refused(Parameters({"command": "nonsense", "response": "json"}), Problem(name))
    (root, error), *more = msgspec.json.decode(told.body).items()
    assert (root, more) == ("errorresponse", [])
    assert error["errorcode"] == told.status_code
    assert told.status_code in {401, 405, 429, 430, 431, 503, 530}
    assert error["errortext"]
    assert ("cserrorcode" in error) is (told.status_code != 401)


def test_jobs_that_are_not_there_are_told_alike() -> None:
    names = ("job-not-found", "job-expired", "job-deleted")
    assert len({bytes(refused(QUERY, Problem(name)).body) for name in names}) == 1
