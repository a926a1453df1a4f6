"""Reading settings from the environment, with errors that name the variable."""

from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from jobcast.errors import BadSetting
from jobcast.names import EXCHANGE_MAX, RESERVED, is_free_exchange

FLAGS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}

NONE: Final = "none"

T = TypeVar("T")
N = TypeVar("N", int, float)


class Environment:
    """Typed access to environment variables. A variable that is empty counts as not set.

    Every method raises `BadSetting` for a value that is not allowed.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str, default: str) -> str:
        return self._values.get(name) or default

    def optional(self, name: str) -> str | None:
        return self._values.get(name) or None

    def path(self, name: str, default: Path) -> Path:
        value = self.optional(name)
        return Path(value) if value else default

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        allowed = f"an integer from {low} to {high}"
        return self._parsed(name, default, _bounded(int, low, high), allowed)

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        allowed = f"a number from {low:g} to {high:g}"
        return self._parsed(name, default, _bounded(float, low, high), allowed)

    def flag(self, name: str, default: bool) -> bool:
        return self._parsed(name, default, lambda text: FLAGS[text.lower()], "true or false")

    def names(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A comma-separated choice out of `default`, which is also the default; `none` for none."""

        def parse(text: str) -> tuple[str, ...]:
            if text == NONE:
                return ()
            chosen = tuple(word.strip() for word in text.split(",") if word.strip())
            if not set(chosen) <= set(default):
                raise ValueError(text)
            return chosen

        return self._parsed(
            name, default, parse, f"a comma-separated choice of {', '.join(default)} or {NONE}"
        )

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        """One of these; the first is the default."""
        words = {word: word for word in allowed}
        return self._parsed(name, allowed[0], words.__getitem__, " or ".join(allowed))

    def exchange(self, name: str) -> str | None:
        """The name of an exchange that is not one of ours, none unless given."""

        def parse(text: str) -> str | None:
            if not is_free_exchange(text):
                raise ValueError(text)
            return text

        reserved = ", ".join(RESERVED)
        allowed = f"a name of 1 to {EXCHANGE_MAX} of A-Z a-z 0-9 . _ : - that begins with none of"
        return self._parsed(name, None, parse, f"{allowed} {reserved}")

    def url(self, name: str, default: str, *, schemes: tuple[str, ...]) -> str:
        """A URL with a host. Its password is left out of the error."""
        value = self.text(name, default)
        try:
            parts = urlsplit(value)
            good = parts.scheme in schemes and bool(parts.hostname)
            _ = parts.port  # raises ValueError for one that is not a number
        except ValueError:
            good = False
        if not good:
            shown = f"{value.split('://', maxsplit=1)[0][:20]}://…" if "://" in value else "…"
            raise BadSetting(
                f"{name}={shown}: a URL with a host and {' or '.join(schemes)} is wanted"
            )
        return value

    def _parsed(self, name: str, default: T, parse: Callable[[str], T], allowed: str) -> T:
        value = self.optional(name)
        if value is None:
            return default
        try:
            return parse(value.strip())
        except (ValueError, KeyError):
            raise BadSetting(f"{name}={value}: {allowed} is wanted") from None


def _bounded(kind: type[N], low: N, high: N) -> Callable[[str], N]:
    def parse(text: str) -> N:
        value = kind(text)
        if not (isfinite(value) and low <= value <= high):
            raise ValueError(text)
        return value

    return parse
