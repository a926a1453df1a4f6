"""Which dead letters an operator means: by the beginnings of ids, or by reasons. Pure."""

from collections.abc import Collection, Sequence

from msgspec import Struct

from jobcast.errors import JobcastError
from jobcast.letter import Letter


class NoSuchLetter(JobcastError):
    """No dead letter has such an id, or more than one id begins so."""


class Found(Struct):
    """An id, the first letter that has it if it is to be kept, and how many there are."""

    id: str
    first: Letter | None
    count: int = 1


class Prefix:
    """The beginning of an id, while the letters pass by. Keeps two letters at most."""

    def __init__(self, text: str, *, keep: bool = False) -> None:
        self.text = text
        self._keep = keep
        self._exact: Found | None = None
        self._near: Found | None = None
        self._another: str | None = None

    def see(self, letter: Letter) -> None:
        id = letter.id
        if id == self.text:
            self._exact = self._one_more(self._exact, letter)
        elif not id.startswith(self.text):
            pass
        elif self._near is None or self._near.id == id:
            self._near = self._one_more(self._near, letter)
        else:
            self._another = id

    @property
    def found(self) -> Found:
        """Raises NoSuchLetter. The whole id counts before any that only begins so."""
        if self._exact is not None:
            return self._exact
        if self._near is None:
            raise NoSuchLetter(f"no dead letter has an id that begins with {self.text}")
        if self._another is not None:
            both = f"{self._near.id} and {self._another}"
            raise NoSuchLetter(f"{self.text} is the beginning of more than one id: {both}")
        return self._near

    def _one_more(self, found: Found | None, letter: Letter) -> Found:
        if found is None:
            return Found(letter.id, letter if self._keep else None)
        found.count += 1
        return found


class Choice(Struct, frozen=True):
    """Letters by their whole ids, or by their reasons, or all of them."""

    ids: Collection[str] = ()
    reasons: Sequence[str] = ()

    def takes(self, letter: Letter) -> bool:
        if self.ids:
            return letter.id in self.ids
        return not self.reasons or letter.reason in self.reasons
