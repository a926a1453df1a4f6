"""The audit log: one line for each refusal and each control action, to the logger `jobcast.audit`.

Owns the form of those lines: `refused who=alice door=http action="GET /v1/jobs" why=forbidden`.
Promises: no value can begin a line or a field of its own; a flood of refusals fills no disk, since
beyond REFUSALS_PER_S they are counted and the number is written with the next line. Never is given
a secret: callers pass names, kinds and route templates, not headers, queries or bodies.
"""

import json
import logging
import re
from typing import Final

from api.limits import Rate

REFUSALS_PER_S: Final = 20.0
WHO_PER_S: Final = 5.0
VALUE_MAX: Final = 200
NOBODY: Final = "-"
PLAIN: Final = re.compile(r"\A[A-Za-z0-9._:~@/{}*+-]+\Z")

log = logging.getLogger("jobcast.audit")


class Audit:
    """A writer of its own; the process uses the functions below."""

    def __init__(self, total: Rate | None = None, each: Rate | None = None) -> None:
        self._total = total or Rate(REFUSALS_PER_S)
        self._each = each or Rate(WHO_PER_S)
        self._unwritten = 0

    def refused(self, who: str | None, door: str, action: str, why: str) -> None:
        """`who`: the user, or None for somebody unknown: a name merely claimed is not one.

        `door`: http, amqp …; `action`: what was asked for; `why`: the name of a problem.
        """
        # The one rate keeps a single user from hiding the others, the other bounds the file.
        if self._each.delay(who or NOBODY) or self._total.delay(""):
            self._unwritten += 1
            return
        self.flush()
        log.warning("refused %s", fields(who=who or NOBODY, door=door, action=action, why=why))

    def controlled(self, who: str, action: str, target: str) -> None:
        """A user has changed something; their rate of requests bounds the lines."""
        log.info("controlled %s", fields(who=who, action=action, target=target))

    def flush(self) -> None:
        """Writes how many refusals have gone unwritten, if any."""
        if self._unwritten:
            log.warning("refused unwritten=%d", self._unwritten)
            self._unwritten = 0


def fields(**values: str) -> str:
    """`name=value` pairs; a value that is not plain is quoted as JSON, in ASCII, and cut short."""
    return " ".join(f"{name}={_escaped(value)}" for name, value in values.items())


def _escaped(value: str) -> str:
    text = value if len(value) <= VALUE_MAX else value[:VALUE_MAX] + "…"
    return text if PLAIN.match(text) else json.dumps(text)


_AUDIT: Final = Audit()
refused = _AUDIT.refused
controlled = _AUDIT.controlled
flush = _AUDIT.flush
