"""A listener's buffer: in order, merged, bounded, and never silently incomplete."""

import asyncio

from notifier.feed import position
from notifier.listener import BUFFER_MAX, LATEST_MAX, Item, Listener, OwnerListeners


def entry(number: int, job: str = "j", event: str = "recorded") -> Item:
    cursor = f"{number}-0"
    return Item(event, b"{}", cursor, job, number, position(cursor))


def progress(number: int, version: int, job: str = "j") -> Item:
    cursor = f"{number}-0"
    return Item("progressed", b"{}", cursor, job, version, position(cursor))


def owner_and_listener(job: str | None = None) -> tuple[OwnerListeners, Listener]:
    owner = OwnerListeners("alice")
    owner.last = "0-0"
    listener = Listener(owner, job, lambda: False)
    (owner.feed if job is None else owner.jobs[job]).add(listener)
    return owner, listener


async def take(listener: Listener) -> list[Item]:
    return await asyncio.wait_for(listener.take(float("inf")), 1)


async def test_entries_are_taken_in_the_order_in_which_they_came() -> None:
    owner, listener = owner_and_listener()
    assert listener.attach("0-0")
    for number in (1, 2, 3):
        owner.hand(entry(number))
    assert [item.cursor for item in await take(listener)] == ["1-0", "2-0", "3-0"]
    assert listener.cursor == "3-0"


async def test_progress_is_merged_into_its_latest_and_stands_after_what_it_follows() -> None:
    owner, listener = owner_and_listener()
    listener.attach("0-0")
    for item in (progress(0, 2), progress(0, 2, "k"), entry(1), progress(1, 4), progress(1, 5)):
        owner.hand(item)
    taken = await take(listener)
    assert [(item.event, item.job_id, item.version) for item in taken] == [
        ("progressed", "k", 2),
        ("recorded", "j", 1),
        ("progressed", "j", 5),
    ]


def test_nothing_is_kept_for_a_listener_that_is_not_attached() -> None:
    owner, listener = owner_and_listener()
    owner.hand(entry(1))
    assert not listener._buffer
    assert not listener.attach("0-0")
    assert listener.attach("1-0")


async def test_a_full_buffer_is_given_up_and_says_so() -> None:
    owner, listener = owner_and_listener()
    listener.attach("0-0")
    for number in range(1, BUFFER_MAX + 1):
        owner.hand(entry(number))
    owner.hand(entry(BUFFER_MAX + 1))
    assert listener.lost
    assert await take(listener) == []
    assert listener.attach(f"{BUFFER_MAX + 1}-0")


async def test_too_much_progress_is_given_up_too_and_can_be_had_as_the_latest() -> None:
    owner, listener = owner_and_listener()
    listener.attach("0-0")
    owner.hand(progress(0, 2, "taken"))
    await take(listener)
    for number in range(BUFFER_MAX + 1):
        owner.hand(progress(0, 3, f"j{number}"))
    assert listener.lost
    listener.attach("0-0")
    assert {item.job_id for item in listener.latest()} == {
        f"j{number}" for number in range(BUFFER_MAX + 1)
    }
    assert listener.latest() == []


def test_an_entry_makes_the_progress_before_it_old() -> None:
    owner, listener = owner_and_listener()
    owner.hand(progress(0, 2, "a"))
    owner.hand(progress(0, 2, "b"))
    owner.hand(entry(1, "a"))
    assert [item.job_id for item in listener.latest()] == ["b"]


def test_the_latest_progress_of_so_many_jobs_is_kept_and_no_more() -> None:
    owner, _ = owner_and_listener()
    for number in range(LATEST_MAX + 10):
        owner.hand(progress(0, 2, f"j{number}"))
    assert len(owner.latest) == LATEST_MAX


async def test_a_listener_for_one_job_hears_of_that_job_alone() -> None:
    owner, listener = owner_and_listener("j")
    listener.attach("0-0")
    owner.hand(entry(1, "other"))
    owner.hand(entry(2, "j"))
    assert [item.job_id for item in await take(listener)] == ["j"]


async def test_a_restart_sends_everybody_to_the_feed() -> None:
    owner, listener = owner_and_listener()
    other = Listener(owner, "j", lambda: False)
    owner.jobs["j"].add(other)
    for one in (listener, other):
        one.attach("0-0")
    owner.hand(progress(0, 2))
    owner.restart("7-0")
    assert (listener.lost, other.lost) == (True, True)
    assert (await take(listener), owner.latest, listener.cursor) == ([], {}, "7-0")


async def test_what_comes_while_a_take_is_given_up_is_there_for_the_next() -> None:
    owner, listener = owner_and_listener()
    listener.attach("0-0")
    taking = asyncio.create_task(listener.take(float("inf")))
    await asyncio.sleep(0)
    taking.cancel()
    owner.hand(entry(1))
    await asyncio.wait([taking])
    assert [item.cursor for item in await take(listener)] == ["1-0"]
