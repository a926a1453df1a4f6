"""Who may ask CloudStack's API, and what for, by its real client over TLS: `cs`, in both its
classes."""

from collections.abc import Callable
from typing import Any

import pytest
from cs import CloudStackApiException

from api.users import new_keys, remove_user, rotate_token
from tests.dialects.cloudstack.world import Asked, Reports, Who, World

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize(
    "options",
    [{"secret": "wrong" * 8}, {"key": "wrong"}, {"key": ""}, {"secret": ""}, {"expiration": 0}],
    ids=["wrong secret", "unknown key", "no key", "no secret", "expired"],
)
@pytest.mark.parametrize("method", ["get", "post"])
async def test_who_has_not_signed_well_is_nobody(
    client: Callable[..., Asked],
    reports: Reports,
    alice: Who,
    options: dict[str, Any],
    method: str,
) -> None:
    job = await reports.started(alice)
    with pytest.raises(CloudStackApiException, match="HTTP 401") as raised:
        await client(alice, method=method, **options)("queryAsyncJobResult", jobid=job)
    assert raised.value.error.keys() == {"uuidList", "errorcode", "errortext"}
    assert raised.value.error["errorcode"] == 401


async def test_a_signature_may_count_for_ever_and_hold_a_tilde(
    client: Callable[..., Asked], reports: Reports, alice: Who
) -> None:
    await reports.started(alice, operation="a~b")
    for options in ({}, {"expiration": -1}):
        found = await client(alice, **options)("listAsyncJobs", keyword="a~b")
        assert found["count"] == 1


async def test_the_key_of_a_removed_user_stops_at_once(
    client: Callable[..., Asked], world: World
) -> None:
    carol, dave = world.user(), world.user()
    assert await client(carol)("listAsyncJobs") == {}
    assert await client(dave)("listAsyncJobs") == {}
    remove_user(world.users_file, carol.name)
    rotate_token(world.users_file, dave.name)
    for who in (carol, dave):
        with pytest.raises(CloudStackApiException, match="HTTP 401"):
            await client(who)("listAsyncJobs")
    keys = new_keys()
    token = rotate_token(world.users_file, dave.name, keys=keys)
    assert await client(Who(dave.name, token, keys))("listAsyncJobs") == {}


async def test_roles_of_the_file_count(client: Callable[..., Asked], world: World) -> None:
    with pytest.raises(CloudStackApiException, match="HTTP 401") as raised:
        await client(world.user("executor"))("listAsyncJobs")
    assert "subscriber" in raised.value.error["errortext"]


async def test_a_client_without_keys_brings_a_token(
    client: Callable[..., Asked], world: World, reports: Reports, alice: Who
) -> None:
    job = await reports.started(alice)
    headers = {"Authorization": f"Bearer {alice.token}"}
    ask = client(alice, key=None, secret=None, headers=headers)
    assert (await ask("queryAsyncJobResult", jobid=job))["jobid"] == job
    with pytest.raises(CloudStackApiException, match="HTTP 432") as raised:
        await ask("deployVirtualMachine")
    assert raised.value.error["errorcode"] == 432
    with pytest.raises(CloudStackApiException, match="HTTP 401"):  # a signature counts alone
        await client(alice, secret="wrong", headers=headers)("queryAsyncJobResult", jobid=job)


async def test_what_is_not_served_is_said_to_who_has_signed(
    client: Callable[..., Asked], alice: Who
) -> None:
    for command in ("deployVirtualMachine", "queryasyncjobresult"):
        with pytest.raises(CloudStackApiException, match="HTTP 401") as raised:
            await client(alice)(command)
        assert raised.value.error["errortext"].startswith("command:")
