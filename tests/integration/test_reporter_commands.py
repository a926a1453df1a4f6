"""The Reporter is told that its jobs are to be canceled, whatever happens to its queue."""

import asyncio

import pytest

from deploy.rabbitmq import RabbitMQNode
from jobcast.events import Canceled, Failed, Started, Succeeded
from jobcast.notification import Command
from jobcast.reporter import Reporter
from tests.eventually import eventually
from tests.integration.commander import Commander, command_queues, forever, uncancelled


async def test_a_command_cancels_the_block_and_not_what_follows_it(commander: Commander) -> None:
    async with (
        commander.insisting("j", "vm.deploy"),
        Reporter(commander.url, owner=commander.owner) as reporter,
    ):
        async with reporter.job("j", operation="vm.deploy") as job:
            assert not job.cancel_requested.is_set()
            await forever()
        assert job.cancel_requested.is_set()
        assert uncancelled()
        end = await commander.end("j")
        async with reporter.job("k", operation="vm.deploy"):
            pass
    assert isinstance(end, Canceled)
    assert end.message == "canceled"
    assert isinstance(await commander.end("k"), Succeeded)


async def test_a_block_may_choose_its_end_within_the_grace(commander: Commander) -> None:
    async with (
        commander.insisting("wait", "job"),
        Reporter(commander.url, owner=commander.owner) as reporter,
        reporter.job("wait", grace_s=60) as job,
    ):
        await job.cancel_requested.wait()
        job.succeed(result="half of it")
    assert isinstance(await commander.end("wait"), Succeeded)


async def test_a_block_that_is_cancelled_may_say_what_it_has_left(commander: Commander) -> None:
    async with (
        commander.insisting("clean", "job"),
        Reporter(commander.url, owner=commander.owner) as reporter,
        reporter.job("clean", grace_s=0.05) as job,
    ):
        try:
            await forever()
        finally:
            await job.progress(message="rolling back")
            job.cancel("rolled back", result={"left": 0})
    end = await commander.end("clean")
    assert isinstance(end, Canceled)
    assert (end.message, bytes(end.result)) == ("rolled back", b'{"left":0}')


async def test_a_chosen_end_is_kept_when_the_block_is_cancelled(commander: Commander) -> None:
    async with (
        commander.insisting("j", "job"),
        Reporter(commander.url, owner=commander.owner) as reporter,
        reporter.job("j") as job,
    ):
        job.succeed(result=1)
        await forever()
    assert isinstance(await commander.end("j"), Succeeded)


async def test_a_job_without_grace_is_never_cancelled(commander: Commander) -> None:
    async with (
        commander.insisting("j", "job"),
        Reporter(commander.url, owner=commander.owner) as reporter,
        reporter.job("j", grace_s=None) as job,
    ):
        await job.cancel_requested.wait()
        await job.progress(99)
    assert isinstance(await commander.end("j"), Succeeded)


async def test_an_error_of_the_clean_up_fails_the_job_and_goes_on(commander: Commander) -> None:
    async with (
        commander.insisting("j", "job"),
        Reporter(commander.url, owner=commander.owner) as reporter,
    ):
        with pytest.raises(LookupError):
            await _failing_clean_up(reporter)
        assert uncancelled()
    assert isinstance(await commander.end("j"), Failed)


async def _failing_clean_up(reporter: Reporter) -> None:
    async with reporter.job("j"):
        try:
            await forever()
        finally:
            raise LookupError("no such snapshot")


async def test_a_cancellation_from_elsewhere_is_not_swallowed(commander: Commander) -> None:
    entered, cleaning = asyncio.Event(), asyncio.Event()

    async def work(reporter: Reporter) -> None:
        async with reporter.job("j") as job:
            entered.set()
            try:
                await forever()
            finally:
                cleaning.set()
                await job.cancel_requested.wait()
                await forever()

    async with Reporter(commander.url, owner=commander.owner) as reporter:
        task = asyncio.create_task(work(reporter))
        await entered.wait()
        task.cancel()
        await cleaning.wait()
        await commander.insist("j", "job")
        with pytest.raises(asyncio.CancelledError):
            await task
    assert isinstance(await commander.end("j"), Canceled)


async def test_commands_for_others_and_older_attempts_are_ignored(commander: Commander) -> None:
    async with (
        Reporter(commander.url, owner=commander.owner) as reporter,
        reporter.job("j", attempt=2) as job,
        reporter.job("k", grace_s=None) as other,
    ):
        await commander.insist("nobody", "job")
        await commander.insist("j", "job")
        await commander.insist("k", "job")  # behind them
        await other.cancel_requested.wait()
        assert not job.cancel_requested.is_set()
    assert isinstance(await commander.end("j"), Succeeded)


async def test_a_queue_is_bound_before_the_first_start_of_each_operation_is_sent(
    commander: Commander,
) -> None:
    async with (
        commander.answering() as routed,
        Reporter(commander.url, owner=commander.owner) as reporter,
    ):
        for number in range(20):
            async with reporter.job(operation=f"o.{number}"):
                await asyncio.wait_for(forever(), 20)
        await reporter.queued("q", operation="another")
        async with reporter.job("q", operation="another"):
            await asyncio.wait_for(forever(), 20)
    assert routed == [True] * 21


async def test_many_operations_are_one_binding(commander: Commander) -> None:
    async with (
        commander.answering() as routed,
        Reporter(commander.url, owner=commander.owner) as reporter,
    ):
        for number in range(210):
            async with reporter.job(operation=f"o{number}", grace_s=None) as job:
                await asyncio.wait_for(job.cancel_requested.wait(), 20)
    assert routed == [True] * 210


async def test_jobs_without_a_block_are_told_by_a_callback(commander: Commander) -> None:
    told: list[Command] = []
    facts = {"owner": commander.owner, "operation": "restore"}
    async with Reporter(commander.url, owner=commander.owner) as reporter:
        for attempt in (1, 2):
            start = reporter.event(Started, "low", attempt=attempt, **facts)
            await reporter.send(start, operation="restore", on_cancel=told.append)
            await commander.insist("low", "restore")
            await commander.cancel("low", "restore", attempt)
            await commander.cancel("low", "restore", attempt)
            await eventually(lambda n=attempt: len(told) == n)  # type: ignore[misc]
        await reporter.deliver(reporter.event(Canceled, "low", attempt=2), operation="restore")
        await commander.cancel("low", "restore", 2)
        async with reporter.job("last", operation="restore", grace_s=None) as job:
            await commander.insist("last", "restore")  # behind it
            await job.cancel_requested.wait()
    assert told == [Command(commander.owner, "low", 1), Command(commander.owner, "low", 2)]


async def test_a_reporter_whom_nobody_could_cancel_has_no_queue(
    commander: Commander, spare_rabbitmq: RabbitMQNode
) -> None:
    async with Reporter(commander.url, owner=commander.owner) as reporter:
        await reporter.deliver(reporter.event(Started, "j", operation="x"))
        assert await command_queues(spare_rabbitmq) == []
