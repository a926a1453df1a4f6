"""What a command's output says of its progress: percentages and the last words. Pure."""

import re
from typing import Final

LINE_MAX: Final = 4096
"""Bytes of an unfinished line that are kept."""

_BREAK: Final = re.compile(rb"\r\n|\r|\n|\x08+")  # progress bars go back by CR or by backspaces
_CONTROL: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.|[\x00-\x1f\x7f]"
)
# Not a part of a longer number, of a URL's %20, or of a printf format.
_PERCENT: Final = re.compile(r"(?<![\d.,])(\d{1,3}(?:[.,]\d{1,9})?) ?%(?![\w%])")


class Output:
    """One stream of a command's output. Feed it bytes, cut anywhere.

    `percent` is the last percentage from 0 to 100 that has stood in it, `message` the last line
    that is not empty, without escape sequences; both None at first.
    """

    def __init__(self) -> None:
        self.percent: float | None = None
        self.message: str | None = None
        self._settled: float | None = None  # by lines that are complete
        self._rest = b""

    def feed(self, chunk: bytes) -> bool:
        """Answers whether anything has changed."""
        before = self.percent, self.message
        *lines, self._rest = _BREAK.split(self._rest + chunk)
        self._rest = self._rest[-LINE_MAX:]
        self._read(lines)
        # A bar that begins with CR leaves its line unfinished until the next one comes, so that
        # line counts already, but not for good: more of it may come.
        found = _percent(_text(self._rest))
        self.percent = self._settled if found is None else found
        return (self.percent, self.message) != before

    def finish(self) -> bool:
        """There is no more: the unfinished line counts. Answers whether anything has changed."""
        return self.feed(b"\n")

    def _read(self, lines: list[bytes]) -> None:
        """Backwards, because the latest counts."""
        texts = [_text(line[-LINE_MAX:]) for line in lines]
        self.message = next((text for text in reversed(texts) if text), self.message)
        found = (_percent(text) for text in reversed(texts))
        self._settled = next((value for value in found if value is not None), self._settled)


def _text(line: bytes) -> str:
    return _CONTROL.sub("", line.decode("utf-8", "replace")).strip()


def _percent(text: str) -> float | None:
    if "%" not in text:
        return None
    values = [float(match.replace(",", ".")) for match in _PERCENT.findall(text)]
    return next((value for value in reversed(values) if value <= 100), None)  # noqa: PLR2004
