"""A real browser: headless Chromium, its native EventSource, the session cookie."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import pytest
from playwright.async_api import Page

from deploy.rabbitmq import RabbitMQNode
from deploy.stack import Stack
from jobcast.reporter import Reporter
from tests.e2e.test_readme import block
from tests.eventually import eventually
from tests.logins import Login

WORDS: Final = [
    *("stream", "snapshot", "live", "queued", "started", "progressed", "recorded", "commented"),
    *("cancel-pending", "succeeded", "failed", "canceled", "deleted", "expiring"),
]

LOG_IN: Final = """async (token) => {
  const headers = {Authorization: 'Bearer ' + token};
  return (await fetch('/v1/session', {method: 'POST', headers})).ok;
}"""

FOLLOW: Final = """([path, words]) => {
  const source = new EventSource(path);
  window.seen = [];
  window.source = source;
  for (const word of words) source.addEventListener(word, (event) => {
    const job = JSON.parse(event.data);
    window.seen.push({word, id: event.lastEventId, version: job.version, percent: job.percent,
                      status: job.status, resume: job.resume});
  });
  source.addEventListener('error', () => window.seen.push({word: 'error'}));
}"""


async def seen(page: Page, *words: str) -> list[dict[str, Any]]:
    """What the page's EventSource has got so far, of these words (of all without any)."""
    events: list[dict[str, Any]] = await page.evaluate("window.seen")
    return [event for event in events if not words or event["word"] in words]


async def follow(page: Page, stack: Stack, login: Login, job_id: str) -> None:
    await page.goto(f"{stack.urls[0]}/healthz")
    assert await page.evaluate(LOG_IN, login.token)
    cookies = await page.context.cookies()
    assert [(cookie["httpOnly"], cookie["sameSite"]) for cookie in cookies] == [(True, "Strict")]
    await page.evaluate(FOLLOW, [f"/v1/jobs/{job_id}/events", WORDS])


def versions(events: Sequence[dict[str, Any]]) -> list[int]:
    return [event["version"] for event in events if event.get("version")]


@pytest.mark.timeout(90)
async def test_a_native_event_source_sees_progress_and_end_and_stops_on_204(
    stack: Stack, rabbitmq: RabbitMQNode, subscriber: Login, page: Page
) -> None:
    job_id = "in-the-browser"
    async with Reporter(rabbitmq.url, owner=subscriber.name, source="/tests") as reporter:
        async with reporter.job(job_id, operation="render") as job:
            await follow(page, stack, subscriber, job_id)
            await eventually(lambda: _any(page, "snapshot"))
            await job.progress(30, message="drawing")
            await eventually(lambda: _any(page, "progressed"))
            await job.progress(60)
            await eventually(lambda: _count(page, "progressed", 2))
        await eventually(lambda: _any(page, "succeeded"))
        # The server closes after the end; the browser comes back with its cursor and is told 204.
        await eventually(lambda: _closed(page), 30)
    events = await seen(page)
    assert (events[0]["word"], events[0]["id"], events[0]["resume"]) == ("stream", "", "fresh")
    assert versions(events) == sorted(set(versions(events)))
    assert len(await seen(page, "succeeded")) == 1
    assert (await seen(page, "succeeded"))[0]["percent"] == 100


@pytest.mark.timeout(120)
async def test_a_restart_of_the_api_is_survived_without_loss_or_repeat(
    stack: Stack, rabbitmq: RabbitMQNode, subscriber: Login, page: Page
) -> None:
    job_id = "through-a-restart"
    async with Reporter(rabbitmq.url, owner=subscriber.name, source="/tests") as reporter:
        await reporter.queued(job_id, operation="render")
        await follow(page, stack, subscriber, job_id)
        await eventually(lambda: _any(page, "snapshot"))
        await asyncio.to_thread(stack.replicas[0].stop)
        async with reporter.job(job_id) as job:  # starts while nobody listens
            await job.progress(50)
            await asyncio.to_thread(stack.replicas[0].start)
            await eventually(lambda: _any(page, "progressed"), 30)
            await asyncio.to_thread(stack.replicas[0].kill)  # and once without a goodbye
            await asyncio.to_thread(stack.replicas[0].start)
        await eventually(lambda: _any(page, "succeeded"), 30)
        await eventually(lambda: _closed(page), 30)
    events = await seen(page)
    resumes = [event["resume"] for event in events if event["word"] == "stream"]
    assert resumes[0] == "fresh"
    assert resumes[1:]
    assert set(resumes[1:]) == {"resumed"}
    assert [e["word"] for e in await seen(page, "started", "succeeded")] == ["started", "succeeded"]
    changes = [event for event in events if event["word"] not in {"stream", "error"}]
    assert versions(changes) == sorted(versions(changes))
    # Progress that may have been missed is told once more after a resume (protocol, 8.3).
    lasting = versions([event for event in changes if event["word"] != "progressed"])
    assert lasting == sorted(set(lasting))


async def test_the_script_of_the_readme_shows_jobs_in_the_console(
    stack: Stack, rabbitmq: RabbitMQNode, subscriber: Login, page: Page
) -> None:
    printed: list[str] = []
    page.on("console", lambda message: printed.append(message.text))
    page.on("dialog", lambda dialog: dialog.accept(subscriber.token))
    await page.goto(f"{stack.urls[0]}/healthz")
    await page.evaluate(f"(async () => {{ {block('js', 'EventSource')} }})()")
    async with (
        Reporter(rabbitmq.url, owner=subscriber.name, source="/tests") as reporter,
        reporter.job("for-the-console"),
    ):
        await eventually(lambda: any(line.startswith(("snapshot", "started")) for line in printed))
    await eventually(lambda: any(line.startswith("succeeded") for line in printed))


async def _any(page: Page, word: str) -> bool:
    return bool(await seen(page, word))


async def _count(page: Page, word: str, count: int) -> bool:
    return len(await seen(page, word)) >= count


async def _closed(page: Page) -> bool:
    return bool(await page.evaluate("window.source.readyState === EventSource.CLOSED"))
