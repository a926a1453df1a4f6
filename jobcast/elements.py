"""The elements of a JSON array that cannot be read as a whole.

One element with a NaN, or nested too deep for the reader, must not take its neighbours with it. So
the array is cut at its own commas, without a look at what stands between them.
"""

import re
from typing import Final

TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]+|[\]}]+|,+|"', re.DOTALL)


def elements(text: bytes) -> list[bytes]:
    """Each element's text as it stands there; none if this is not one array of elements."""
    text = text.strip()
    depth, start, found = 0, 1, list[bytes]()
    for token in TOKEN.finditer(text):
        mark = token[0]
        if mark[:1] in b"[{":
            depth += len(mark)
        elif mark[:1] in b"]}":
            depth -= len(mark)
            if depth < 1 and token.end() < len(text):
                return []
        elif mark == b'"' or (depth == 1 and mark[:2] == b",,"):
            return []  # a string without an end, an element that is not there
        elif mark == b"," and depth == 1:
            found.append(text[start : token.start()].strip())
            start = token.end()
    found.append(text[start:-1].strip())
    whole = text[:1] == b"[" and text[-1:] == b"]" and depth == 0
    return found if whole and all(found) else []
