"""A tiny HTTP server that answers what a test has written down, cut and late where it says so."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import uvicorn

from jobcast.job import Job, Status
from tests.eventually import eventually

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Answer = Callable[[Send], Awaitable[None]]


class Request(msgspec.Struct):
    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes


class ScriptedAPI:
    """Answers in the order of `answers`; the last one is given again and again."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers
        self.requests: list[Request] = []
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        body = (await receive()).get("body", b"")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = parse_qsl(scope["query_string"].decode(), keep_blank_values=True)
        path = scope["raw_path"].decode()
        self.requests.append(Request(scope["method"], path, query, headers, body))
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        await answer(send)


@asynccontextmanager
async def scripted_api(*answers: Answer) -> AsyncIterator[ScriptedAPI]:
    api = ScriptedAPI(list(answers))
    config = uvicorn.Config(
        api,
        port=0,
        lifespan="off",
        ws="none",
        log_level="critical",
        timeout_graceful_shutdown=0,
    )
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve())
        await eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        api.url = f"http://127.0.0.1:{port}"
        try:
            yield api
        finally:
            server.should_exit = server.force_exit = True
            await serving


def job(version: int = 1, status: Status = Status.RUNNING, **fields: Any) -> Job:
    at = "2026-11-21T10:00:00.000Z"
    facts: dict[str, Any] = {"id": "j1", "owner": "alice", "created_at": at, "updated_at": at}
    return Job(**(facts | {"version": version, "status": status} | fields))


def reply(status: int, body: object = None, **headers: str) -> Answer:
    """A whole answer; a body that is no problem is JSON."""
    content_type = "application/problem+json" if status >= 400 else "application/json"
    lines = {"content-type": content_type} | {k.replace("_", "-"): v for k, v in headers.items()}

    async def answer(send: Send) -> None:
        await _start(send, status, lines)
        await send({"type": "http.response.body", "body": msgspec.json.encode(body)})

    return answer


def problem(status: int, name: str, **headers: str) -> Answer:
    return reply(status, {"type": f"/problems/{name}", "title": name, "status": status}, **headers)


def no_content() -> Answer:
    async def answer(send: Send) -> None:
        await _start(send, 204, {})
        await send({"type": "http.response.body", "body": b""})

    return answer


def late(answer: Answer, after: asyncio.Event) -> Answer:
    async def wait(send: Send) -> None:
        await after.wait()
        await answer(send)

    return wait


def stream(*blocks: str, cut: bool = False, hold: bool = False) -> Answer:
    """An event stream. `cut`: the connection breaks after it; `hold`: it stays open and silent."""

    async def answer(send: Send) -> None:
        await _start(send, 200, {"content-type": "text/event-stream; charset=utf-8"})
        for block in blocks:
            await send(
                {"type": "http.response.body", "body": f"{block}\n\n".encode(), "more_body": True}
            )
        if hold:
            await asyncio.Event().wait()
        if not cut:  # else uvicorn finds the response unfinished and closes the connection
            await send({"type": "http.response.body", "body": b""})

    return answer


def event(name: str, data: object, cursor: str | None = None) -> str:
    text = data if isinstance(data, str) else msgspec.json.encode(data).decode()
    return f"event: {name}\n" + (f"id: {cursor}\n" if cursor else "") + f"data: {text}"


def opening(resume: str) -> str:
    return event("stream", json.dumps({"resume": resume}))


async def _start(send: Send, status: int, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
