"""Jobs that have expired, and ids that never were: 410 and 404 at every path, whatever comes late.

Of deleted jobs tests/contract/test_http/test_control.py tells. In the house the lab applies what is
said, with a retention of its own.
"""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from jobcast.events import Commented, Deleted, Event, Recorded, Started, Succeeded
from tests.contract.test_http.house import House
from tests.contract.test_http.test_control import problem
from tests.eventually import eventually
from tests.integration.lab import Lab

LINE = {"target": "t", "code": 0}
PATHS: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "", None),
    ("GET", "?wait=20", None),
    ("GET", "/events", None),
    ("GET", "/records", None),
    ("POST", "/cancel", None),
    ("PATCH", "", {"comment": "x"}),
    ("DELETE", "", None),
    ("POST", "/records", LINE),
]


async def asked(client: httpx.AsyncClient, job: str) -> set[tuple[int, str]]:
    """What every path about the job answers, but for those that wait for an unknown one."""
    found = set()
    for method, path, body in PATHS:
        answer = await client.request(method, f"/v1/jobs/{job}{path}", json=body)
        found.add(problem(answer))
    return found


async def test_an_expired_job_is_410_everywhere_and_nothing_late_brings_it_back(
    house: House, lab_of: Callable[[str], Lab]
) -> None:
    alice = house.user()
    lab = Lab(lab_of(alice.name).redis, alice.name, retention_s=1)
    await lab.tell(lab.say(Started, group="g"), lab.say(Recorded, target="t", code=0))
    await lab.tell(lab.say(Succeeded))
    async with house.client(alice) as client, house.client(alice, 1) as elsewhere:

        async def expired() -> bool:
            return (await client.get("/v1/jobs/j")).status_code == 410

        await eventually(expired)
        late: list[Event] = [
            lab.say(Started, attempt=2),
            lab.say(Succeeded),
            lab.say(Recorded, target="t", code=1, group="h"),
            lab.say(Commented, comment="c"),
            lab.say(Deleted),
        ]
        lab.restart()
        await lab.tell(*late)
        assert await asked(elsewhere, "j") == {(410, "job-expired")}
        for path in ("/v1/jobs", "/v1/jobs?group=g"):
            assert (await client.get(path)).json() == {"jobs": [], "next": None}
        for group in "gh":
            found = await client.get(f"/v1/records?group={group}")
            assert found.json() == {"records": [], "total": 0}


@pytest.mark.parametrize("job", ["never", "a b", "x" * 101, "ü"])
async def test_an_unknown_and_an_impossible_job_are_404_to_who_wants_to_change_them(
    house: House, job: str
) -> None:
    alice = house.user()
    async with house.client(alice) as client:
        for method, path, body in PATHS[3:]:
            answer = await client.request(method, f"/v1/jobs/{job}{path}", json=body)
            assert problem(answer) == (404, "job-not-found")
    assert f"controlled who={alice.name}" not in house.log
