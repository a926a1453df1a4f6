"""What the API's login at Redis may do: read jobs, and nothing to them. There is no second door."""

import re
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from deploy.redis import READER_RIGHTS, RedisNode
from deploy.stack import ROOT
from notifier.keys import LEASES, OWNERS, OwnerKeys, channel

KEYS = OwnerKeys("rights")
JOB = KEYS.job("j")
WRITES = [
    ("SET", JOB, "x"),
    ("DEL", JOB),
    ("UNLINK", JOB),
    ("EXPIRE", JOB, "1"),
    ("RENAME", JOB, KEYS.job("k")),
    ("COPY", JOB, KEYS.job("k")),
    ("HSET", JOB, "version", "9"),
    ("XADD", KEYS.feed, "*", "event", "succeeded"),
    ("XTRIM", KEYS.feed, "MAXLEN", "0"),
    ("ZADD", KEYS.jobs, "0", "x"),
    ("ZREM", KEYS.live, "x"),
    ("RPUSH", KEYS.records("j"), "x"),
    ("SADD", KEYS.refs("j"), "x"),
    ("SET", KEYS.gone("j"), "deleted"),
    ("ZADD", LEASES, "0", "rights/j"),
    ("ZADD", OWNERS, "0", "rights"),
    ("PUBLISH", channel(0, "rights"), "0-1 0-0 succeeded 1 j\n{}"),
    ("EVAL", "return redis.call('DEL', KEYS[1])", "1", JOB),
    ("SCRIPT", "LOAD", "return 1"),
    ("FUNCTION", "FLUSH"),
]
ELSEWHERE = [
    ("FLUSHALL",),
    ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
    ("CONFIG", "GET", "*"),
    ("ACL", "SETUSER", "jobcast-api", "allcommands"),
    ("ACL", "LIST"),
    ("KEYS", "*"),
    ("MONITOR",),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SHUTDOWN",),
    ("GET", "somebody-elses"),
    ("SET", "somebody-elses", "x"),
]


@pytest.fixture
async def reader(redis_server: RedisNode) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_server.reader_url) as redis:
        yield redis


@pytest.mark.parametrize("command", [*WRITES, *ELSEWHERE], ids=" ".join)
async def test_the_reader_may_not(reader: Redis, command: tuple[str, ...]) -> None:
    with pytest.raises(NoPermissionError):
        await reader.execute_command(*command)  # type: ignore[no-untyped-call]


async def test_the_reader_may_not_hear_other_channels(reader: Redis) -> None:
    async with reader.pubsub() as hearing:
        await hearing.subscribe("somebody-elses")
        with pytest.raises(NoPermissionError):
            await hearing.get_message(timeout=5)


def test_docker_compose_gives_the_same_rights() -> None:
    lines = (ROOT / "docker-compose.yml").read_text().splitlines()
    words = [line.strip().removeprefix("- ").strip('"') for line in lines]
    password = next(at for at, word in enumerate(words) if word.startswith(">"))
    assert words[password - 3 : password] == ["--user", "jobcast-api", "on"]
    assert tuple(words[password + 1 :][: len(READER_RIGHTS)]) == READER_RIGHTS
    assert any(re.search(r"JOBCAST_REDIS_URL: redis://jobcast-api:", word) for word in words)
