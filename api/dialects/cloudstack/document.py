"""Answers as XML and as JSON.

Promises: XML 1.0 that every parser reads, whatever the values hold.
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, tostring

import msgspec
from msgspec import Raw

VERSION: Final = "4.21.0.0"
"""The release whose answers these are."""
JSON: Final = "application/json; charset=UTF-8"
XML: Final = "text/xml; charset=UTF-8"
HEAD: Final = b'<?xml version="1.0" encoding="UTF-8"?>'

UNSPEAKABLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, in no way of writing them."""
UNNAMEABLE: Final = re.compile(r"\A[^A-Za-z_]|[^A-Za-z0-9_.-]")


def json_document(root: str, members: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode({root: members})


def xml_document(root: str, members: Mapping[str, Any]) -> bytes:
    """A member that is None is left out; each item of a list is an element of its name."""
    top = Element(root, {"cloud-stack-version": VERSION})
    for name, value in members.items():
        _add(top, name, value)
    text: bytes = tostring(top, encoding="utf-8", xml_declaration=False)
    # As it is it would be read as a line feed; nothing but text has one here.
    return HEAD + text.replace(b"\r", b"&#13;")


def _add(parent: Element, name: str, value: Any) -> None:
    match value:
        case None:
            pass
        case Raw():
            inner = msgspec.json.decode(value)
            _add(parent, name, {"item": inner} if isinstance(inner, list) else inner)
        case list():
            for item in value:
                _add(parent, name, {"item": item} if isinstance(item, list) else item)
        case dict():
            child = SubElement(parent, element_name(name))
            for key, inner in value.items():
                _add(child, key, inner)
        case _:
            SubElement(parent, element_name(name)).text = _text(value)


def element_name(text: str) -> str:
    """What cannot stand in a name is written as `_x0020_`."""
    return UNNAMEABLE.sub(lambda found: f"_x{ord(found[0]):04X}_", text) or "_"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return UNSPEAKABLE.sub("\ufffd", str(value))
