"""The types of event fields with their bounds (docs/protocol.md § 2), as msgspec reads them."""

from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta

from jobcast.names import ID_MAX, ID_PATTERN, OPERATION_MAX, OWNER_MAX, OWNER_PATTERN

INT_MAX: Final = 2**31 - 1
TARGETS_MAX: Final = 1_000
LABELS_MAX: Final = 16
RESULT_MAX: Final = 262_144
"""Bytes of compact JSON."""

# The lengths of these three count percent-encoded; wire.py measures that on top.
Identifier = Annotated[str, Meta(min_length=1, max_length=ID_MAX, pattern=ID_PATTERN)]
Owner = Annotated[str, Meta(min_length=1, max_length=OWNER_MAX, pattern=OWNER_PATTERN)]
Operation = Annotated[str, Meta(min_length=1, max_length=OPERATION_MAX, pattern=ID_PATTERN)]

EventName = Annotated[str, Meta(min_length=1, max_length=1024)]
Group = Annotated[str, Meta(max_length=128)]
Name = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=1024)]
ErrorCode = Annotated[str, Meta(min_length=1, max_length=128)]
ErrorText = Annotated[str, Meta(max_length=4096)]
Target = Annotated[str, Meta(min_length=1, max_length=100)]
LabelName = Annotated[str, Meta(min_length=1, max_length=128)]

Percent = Annotated[float, Meta(ge=0, le=100)]
Integer = Annotated[int, Meta(ge=-INT_MAX - 1, le=INT_MAX)]
StatusCode = Annotated[int, Meta(ge=100, le=999)]
Attempt = Annotated[int, Meta(ge=1, le=INT_MAX)]
Counter = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, Meta(gt=0, le=1_000_000_000)]
Digits = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[0-9]+\Z")]
Time = Annotated[datetime, Meta(tz=True)]

Targets = Annotated[dict[Target, Percent], Meta(max_length=TARGETS_MAX)]
Labels = Annotated[dict[LabelName, Name], Meta(max_length=LABELS_MAX)]
