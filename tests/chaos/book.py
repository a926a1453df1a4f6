"""Where the writers note what they are about to say, and what the broker has confirmed.

Used by threads as well: nothing here waits, and what is appended is never taken away.
"""

from collections.abc import Iterable, Mapping

from jobcast.events import Event
from tests.chaos.life import Life
from tests.chaos.record import Expected, JobKey, changes_of, is_progress


class _Page:
    def __init__(self, life: Life) -> None:
        self.life = life
        self.confirmed: set[str] = set()


class Book:
    """`opened` is every life begun, in that order."""

    def __init__(self) -> None:
        self.opened: list[Life] = []
        self.confirmed = 0
        self._pages: dict[JobKey, _Page] = {}

    def open(self, life: Life) -> None:
        """Before anything is said of the job."""
        self._pages[life.key] = _Page(life)
        self.opened.append(life)

    def confirm(self, life: Life, events: Iterable[Event]) -> None:
        """The broker has confirmed these events of the job."""
        page = self._pages[life.key]
        before = len(page.confirmed)
        page.confirmed.update(event.id for event in events)
        self.confirmed += len(page.confirmed) - before

    def confirm_all(self, life: Life) -> None:
        """All but progress, which the SDK may have merged: that is not counted."""
        self.confirm(life, [event for event in life.events if not is_progress(event)])

    def expected(self) -> Mapping[JobKey, Expected]:
        return {key: _expected(page) for key, page in self._pages.items()}


def _expected(page: _Page) -> Expected:
    life = page.life
    sure = [event for event in life.events if event.id in page.confirmed]
    unsure = [event for event in life.events if event.id not in page.confirmed]
    ended = life.events[-1].id in page.confirmed
    return Expected(
        changes_of(sure), changes_of(unsure), life.final if ended else None, len(page.confirmed)
    )
