"""The OpenID Connect issuer whose JWTs open the door, and its keys as they change.

Owns fetching the key set (`JOBCAST_JWT_JWKS`, a URL or a file), keeping it, and the tokens already
verified. Promises: a question is answered from memory alone; a key set that cannot be had, or makes
no sense, leaves the known keys in force; a key withdrawn by the issuer is refused from the next
fetch on. Bounds: one fetch at a time and one in FETCH_PAUSE_S, 256 KiB, 5 s, 10,000 tokens kept.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from api.bearer import Claims, Key, Terms, header_of, keys_of, verified
from api.secret import CannotTell
from jobcast.errors import BadSetting

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
FETCH_S: Final = 5.0
FETCH_PAUSE_S: Final = 10.0
REFRESH_S: Final = 300.0
SETTLE_S: Final = 2.0
KEY_SET_MAX: Final = 256 * 1024
KNOWN_MAX: Final = 10_000

log = logging.getLogger(__name__)


class Issuer:
    """`may_be_called`: whether a user may have this name."""

    def __init__(self, terms: Terms, source: str, may_be_called: Callable[[str], bool]) -> None:
        self._terms = terms
        self._source = checked(source)
        self._may_be_called = may_be_called
        self._keys: list[Key] | None = None
        self._known: OrderedDict[bytes, Claims] = OrderedDict()
        self._wanted = asyncio.Event()
        self._fetched = asyncio.Event()
        self._failing = False
        self._fetch_at = float("-inf")  # the earliest moment of the next fetch

    def claims(self, token: str, now: float) -> Claims | None:
        """What a good token says. `now` in seconds since 1970. Raises CannotTell while no keys
        have ever been had."""
        mark = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        known = self._known.get(mark)
        if known is not None:
            return known if known.expires_at > now else None
        header = header_of(token)
        if header is None:
            return None
        if self._keys is None:
            self._want()
            raise CannotTell("the issuer's keys are not known yet")
        claims = verified(token, header, self._keys, self._terms)
        if claims is None:
            if header.kid is not None and all(key.id != header.kid for key in self._keys):
                self._want()
            return None
        if not self._may_be_called(claims.user):
            return None
        self._known[mark] = claims
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return claims

    def _want(self) -> None:
        if not self._wanted.is_set():
            self._fetched.clear()
            self._wanted.set()

    async def settled(self) -> bool:
        """After a refusal: True if keys that were missing may have come, so that one should ask
        again. Waits SETTLE_S at most, and not at all where no fetch is due."""
        if not self._wanted.is_set() or asyncio.get_running_loop().time() < self._fetch_at:
            return False
        try:
            async with asyncio.timeout(SETTLE_S):
                await self._fetched.wait()
        except TimeoutError:
            return False
        return True

    async def keep(self) -> None:
        """Fetches the keys, for ever: now and then, and soon after an unknown one was asked for."""
        loop = asyncio.get_running_loop()
        async with httpx.AsyncClient(timeout=FETCH_S) as http:
            while True:
                await self._fetch(http)
                self._wanted.clear()
                self._fetch_at = loop.time() + FETCH_PAUSE_S
                self._fetched.set()
                try:
                    async with asyncio.timeout(FETCH_PAUSE_S if not self._keys else REFRESH_S):
                        await self._wanted.wait()
                except TimeoutError:
                    pass
                await asyncio.sleep(max(0.0, self._fetch_at - loop.time()))

    async def _fetch(self, http: httpx.AsyncClient) -> None:
        try:
            keys = keys_of(await self._read(http))
        except (httpx.HTTPError, OSError, ValueError, TimeoutError) as error:
            level = logging.DEBUG if self._failing else logging.ERROR  # once per outage
            what = "cannot be had" if self._keys is None else "before stay in force"
            log.log(level, "JOBCAST_JWT_JWKS: the keys %s: %r", what, error)
            self._failing = True
            return
        self._failing = False
        if self._keys is None or {key.mark for key in keys} != {key.mark for key in self._keys}:
            log.info("JOBCAST_JWT_JWKS: %d keys", len(keys))
            self._known.clear()  # what a withdrawn key has signed
        self._keys = keys

    async def _read(self, http: httpx.AsyncClient) -> bytes:
        if isinstance(self._source, Path):
            _check_length(self._source.stat().st_size)
            return self._source.read_bytes()
        body = bytearray()
        async with asyncio.timeout(FETCH_S), http.stream("GET", self._source) as response:
            response.raise_for_status()
            async for part in response.aiter_bytes():
                body += part
                _check_length(len(body))
        return bytes(body)


def checked(source: str) -> str | Path:
    """Raises BadSetting."""
    parts = urlsplit(source)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return source
    if "://" in source:
        raise BadSetting(
            "JOBCAST_JWT_JWKS: an https:// URL (http:// for loopback alone) or a file is wanted"
        )
    return Path(source)


def _check_length(length: int) -> None:
    if length > KEY_SET_MAX:
        raise ValueError(f"more than {KEY_SET_MAX} bytes")
