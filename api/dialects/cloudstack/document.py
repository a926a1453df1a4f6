"""Answers as XML and as JSON.

Promises: XML 1.0 that every parser reads, whatever the values hold.
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

import msgspec
from msgspec import Raw

VERSION: Final = "4.21.0.0"
"""The release whose answers these are."""
JSON: Final = "application/json; charset=UTF-8"
XML: Final = "text/xml; charset=UTF-8"
HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>'

UNSPEAKABLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, in no way of writing them."""
NAME: Final = re.compile(r"\A[A-Za-z_][A-Za-z0-9_.-]*\Z")
UNNAMEABLE: Final = re.compile(r"\A[^A-Za-z_]|[^A-Za-z0-9_.-]")


def json_document(root: str, members: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode({root: members})


def xml_document(root: str, members: Mapping[str, Any]) -> bytes:
    """A member that is None is left out; each item of a list is an element of its name."""
    parts = [f'{HEAD}<{root} cloud-stack-version="{VERSION}">']
    for name, value in members.items():
        _add(parts, name, value)
    parts.append(f"</{root}>")
    return "".join(parts).encode()


def _add(parts: list[str], name: str, value: Any) -> None:
    """Puts the value in, below its name."""
    match value:
        case str() | int() | float():
            parts.append(f"<{name}>{_text(value)}</{name}>")
        case dict():
            parts.append(f"<{name}>")
            for key, inner in value.items():
                _add(parts, element_name(key), inner)
            parts.append(f"</{name}>")
        case list():
            for item in value:
                _add(parts, name, {"item": item} if isinstance(item, list) else item)
        case Raw():
            inner = msgspec.json.decode(value)
            _add(parts, name, {"item": inner} if isinstance(inner, list) else inner)


def element_name(text: str) -> str:
    """What cannot stand in a name is written as `_x0020_`."""
    if NAME.match(text):
        return text
    return UNNAMEABLE.sub(lambda found: f"_x{ord(found[0]):04X}_", text) or "_"


def _text(value: str | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # A carriage return as it is would be read as a line feed.
    return escape(UNSPEAKABLE.sub("\ufffd", str(value)), {"\r": "&#13;"})
