"""What can go wrong, as values and exceptions of the core."""

import msgspec


class JobcastError(Exception):
    """The base of every exception that jobcast raises on purpose."""


class BadSetting(JobcastError, ValueError):
    """A setting that cannot be used. One line: the variable, its value, what is allowed."""


class Refusal(msgspec.Struct, frozen=True):
    """Why an event cannot be applied, ever: it becomes a dead letter.

    `reason` is a short code (`x-jobcast-reason`), `detail` one sentence naming the field.
    """

    reason: str
    detail: str
