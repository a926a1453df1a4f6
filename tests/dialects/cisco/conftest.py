"""Who asks in the functions of Cisco License Manager."""

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from deploy.stack import Stack
from tests.dialects.cisco.clm import Clm, logged_in
from tests.dialects.cisco.rpc import Rpc, begun, opened
from tests.logins import Login, Logins


@pytest.fixture
def job() -> str:
    """A name that no job has yet."""
    return f"job-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def alice(session_stack: Stack, logins: Logins, subscriber: Login) -> Iterator[Clm]:
    """A fresh subscriber at the first replica."""
    with logged_in(session_stack, logins, subscriber) as user:
        yield user


@pytest.fixture
def bob(session_stack: Stack, logins: Logins) -> Iterator[Clm]:
    with logged_in(session_stack, logins, logins.fresh_subscriber()) as user:
        yield user


@pytest.fixture
def admin(session_stack: Stack, logins: Logins) -> Iterator[Clm]:
    with logged_in(session_stack, logins, logins.admin) as user:
        yield user


@pytest.fixture
async def rpc(session_stack: Stack, subscriber: Login) -> AsyncIterator[Rpc]:
    """By hand, with the user's own token as `Authorization: Bearer`."""
    async with opened(session_stack, subscriber, subscriber.headers) as rpc:
        yield rpc


@pytest.fixture
async def nobody(session_stack: Stack, subscriber: Login) -> AsyncIterator[Rpc]:
    """By hand, without any credential in the request's head."""
    async with opened(session_stack, subscriber, {}) as rpc:
        yield rpc


@pytest.fixture
async def running(session_stack: Stack, logins: Logins, rpc: Rpc) -> str:
    """A running job of the user of `rpc`."""
    return await begun(session_stack, logins, rpc)
