"""From a decoder's complaint to the reason and the field that a dead letter names."""

import re
from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that it cannot read."""

PATH: Final = re.compile(r" - at (?:`key` in )?`\$(?P<path>[^`]*)`\Z")
MISSING: Final = re.compile(r"\AObject missing required field `(?P<name>[^`]+)`")

# Tried in order; the words are those of msgspec, a test holds a row for each.
CODES: Final = (
    (re.compile(r"missing required field|got `null`"), "missing"),
    (re.compile(r"`str` of length <="), "too-long"),
    (re.compile(r"of length <="), "too-many"),
    (re.compile(r"matching regex|RFC3339|timezone"), "bad-format"),
    (re.compile(r"of length >=|` (<=|>=|<|>) |out of range|Invalid enum value"), "out-of-bounds"),
    (re.compile(r"Expected `"), "wrong-type"),
)


def explain(error: Exception, inside: str) -> tuple[str, str]:
    """(reason, detail) for an exception of msgspec; `inside` names the member that was read."""
    if isinstance(error, RecursionError):
        return "too-deep", f"{inside or 'event'}: nested too deep"
    if not isinstance(error, msgspec.ValidationError):
        return "not-json", f"{inside or 'event'}: not JSON in UTF-8"
    text = str(error)
    match = PATH.search(text)
    said = text[: match.start()] if match else text
    path = (match["path"] if match else "").replace("[...]", "").strip(".")
    missing = MISSING.match(said)
    parts = (inside, path, missing["name"] if missing else "")
    field = ".".join(part for part in parts if part).replace(".[", "[")
    if not field:
        return "not-cloudevent", f"event: {said}"
    for pattern, code in CODES:
        if pattern.search(said):
            return code, f"{field}: {said}"
    return "wrong-type", f"{field}: {said}"
