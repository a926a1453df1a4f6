"""The issuer's keys as they change, over a real HTTP server of its own."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from api import issuer
from api.bearer import Terms
from api.issuer import KEY_SET_MAX, Issuer
from api.secret import CannotTell
from jobcast.errors import BadSetting
from tests.eventually import eventually
from tests.mint import AUDIENCE, ISSUER, Mint, key_set

TERMS = Terms(ISSUER, AUDIENCE)


class KeyServer:
    """Serves `body`; with `down` it says 500, with `mute` nothing."""

    def __init__(self) -> None:
        self.body = b""
        self.asked = 0
        self.down = False
        self.mute = False
        self.url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        while self.mute:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
        status = 500 if self.down else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": self.body})


@pytest.fixture
async def keys() -> AsyncIterator[KeyServer]:
    app = KeyServer()
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    app.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/keys"
    yield app
    server.should_exit = True
    await task


@asynccontextmanager
async def kept(source: str) -> AsyncIterator[Issuer]:
    found = Issuer(TERMS, source, lambda name: name != "guest")
    task = asyncio.create_task(found.keep())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def user(found: Issuer, token: str) -> str | None:
    claims = found.claims(token, time.time())
    return None if claims is None else claims.user


def knows(found: Issuer, token: str) -> Callable[[], bool]:
    return lambda: user(found, token) is not None


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer, "FETCH_PAUSE_S", 0.2)


async def test_keys_are_fetched_and_before_that_nobody_is_refused(keys: KeyServer) -> None:
    mint = Mint()
    keys.body = key_set(mint)
    async with kept(keys.url) as found:
        with pytest.raises(CannotTell):
            user(found, mint.token())
        assert user(found, "wrong") is None
        assert await found.settled()
        assert user(found, mint.token()) == "carol"
        assert user(found, mint.token("guest")) is None


@pytest.mark.usefixtures("quick")
async def test_a_new_key_is_fetched_when_it_is_first_seen(keys: KeyServer) -> None:
    old, new = Mint("old"), Mint("new")
    keys.body = key_set(old)
    async with kept(keys.url) as found:
        await eventually(knows(found, old.token()))
        keys.body = key_set(old, new)
        token = new.token()

        async def opens() -> bool:
            return user(found, token) is not None or (
                await found.settled() and user(found, token) is not None
            )

        await eventually(opens, 3)
        assert user(found, old.token()) == "carol"


@pytest.mark.usefixtures("quick")
async def test_a_withdrawn_key_counts_no_longer_nor_what_it_has_signed(keys: KeyServer) -> None:
    old, new = Mint("old"), Mint("new")
    keys.body = key_set(old)
    async with kept(keys.url) as found:
        token = old.token()
        await eventually(knows(found, token))
        keys.body = key_set(new)
        user(found, new.token())
        await eventually(knows(found, new.token()))
        assert user(found, token) is None


async def test_a_flood_of_unknown_keys_is_one_fetch_and_waits_for_nothing(
    keys: KeyServer,
) -> None:
    mint = Mint()
    keys.body = key_set(mint)
    async with kept(keys.url) as found:
        await eventually(knows(found, mint.token()))
        forged = Mint("unknown").token()
        async with asyncio.timeout(1):
            for _ in range(300):
                assert user(found, forged) is None
                assert not await found.settled()
        assert keys.asked == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("trouble", ["down", "nonsense", "large"])
async def test_an_issuer_in_trouble_leaves_the_known_keys_in_force(
    keys: KeyServer, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    mint, other = Mint(), Mint("other")
    keys.body = key_set(mint)
    async with kept(keys.url) as found:
        await eventually(knows(found, mint.token()))
        keys.down = trouble == "down"
        keys.body = b"<html>" if trouble != "large" else b" " * KEY_SET_MAX + key_set(other)
        asked = keys.asked
        user(found, other.token())
        await eventually(lambda: keys.asked > asked)
        await eventually(lambda: "stay in force" in caplog.text)
        assert user(found, mint.token("dave")) == "dave"
        assert user(found, other.token()) is None
        keys.down, keys.body = False, key_set(mint, other)
        await eventually(knows(found, other.token()))


@pytest.mark.usefixtures("quick")
async def test_an_issuer_that_says_nothing_holds_up_a_request_for_two_seconds_at_most(
    keys: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer, "SETTLE_S", 0.2)
    mint = Mint()
    keys.body = key_set(mint)
    async with kept(keys.url) as found:
        await eventually(knows(found, mint.token()))
        keys.mute = True
        asked = keys.asked
        user(found, Mint("unknown").token())
        await eventually(lambda: keys.asked > asked)
        begun = time.monotonic()
        assert not await found.settled()
        assert time.monotonic() - begun < 1
        assert user(found, mint.token("dave")) == "dave"


@pytest.mark.usefixtures("quick")
async def test_keys_may_stand_in_a_file(tmp_path: Path) -> None:
    path, old, new = tmp_path / "keys.json", Mint("old"), Mint("new")
    async with kept(str(path)) as found:
        with pytest.raises(CannotTell):
            user(found, old.token())
        path.write_bytes(key_set(old))

        def known() -> bool:
            return knows(found, old.token())()

        await eventually(known)
        path.write_bytes(key_set(new))
        user(found, new.token())
        await eventually(knows(found, new.token()))


@pytest.mark.parametrize(
    ("source", "good"),
    [
        ("https://issuer.example/keys", True),
        ("http://127.0.0.1:8000/keys", True),
        ("http://localhost/keys", True),
        ("/etc/keys.json", True),
        ("http://issuer.example/keys", False),
        ("http://127.0.0.1.example/keys", False),
        ("ftp://issuer.example/keys", False),
    ],
)
def test_keys_come_over_a_link_that_can_be_trusted(source: str, good: bool) -> None:
    if good:
        assert str(issuer.checked(source)) == source
        return
    with pytest.raises(BadSetting, match="JOBCAST_JWT_JWKS"):
        issuer.checked(source)


async def test_a_verified_token_is_remembered_and_until_it_expires_alone(
    keys: KeyServer,
) -> None:
    mint = Mint("rsa", "RS256")
    keys.body = key_set(mint)
    async with kept(keys.url) as found:
        token = mint.token(ttl_s=60)
        await eventually(knows(found, token))
        assert found.claims(token, time.time() + 50) is not None
        assert found.claims(token, time.time() + 70) is None
