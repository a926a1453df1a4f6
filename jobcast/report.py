"""One job of an executor, from its start to its one end."""

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

import msgspec

from jobcast.events import (
    Canceled,
    Event,
    Failed,
    Heartbeat,
    Progressed,
    Recorded,
    Started,
    Succeeded,
)
from jobcast.interruption import Interruption
from jobcast.job import DEFAULT_OPERATION, NO_RESULT, JobError
from jobcast.notification import Command
from jobcast.outbox import checked

if TYPE_CHECKING:
    from jobcast.reporter import Reporter

TEXT_MAX: Final = 1024
ERROR_MAX: Final = 4096
CODE_MAX: Final = 128
BEATS_PER_LEASE: Final = 3
E = TypeVar("E", bound=Event)

FIRST_SEQUENCE: Final = 2
"""Of `job.started`: 1 belongs to `job.queued`, whoever reports it."""


class JobReport:
    """`async with reporter.job(…) as job`: entering reports the start, leaving the end.

    Left normally: what `succeed`, `fail` or `cancel` has chosen, else success. Left with an
    exception: failure with the exception's class as code and its text as message, or what `fail`
    has chosen. Left by cancellation: canceled. Exceptions go on. Leaving waits until the broker
    has confirmed the end, at most the reporter's `close_s`.

    When the job is to be canceled `cancel_requested` is set, and `grace_s` seconds later the task
    that runs the block is cancelled (never with None). That cancellation ends with the block: the
    job is canceled, or what the block has chosen, and the code after it goes on.
    """

    def __init__(
        self,
        reporter: "Reporter",
        job_id: str,
        description: dict[str, Any],
        *,
        attempt: int = 1,
        grace_s: float | None = 0.0,
    ) -> None:
        self.id = job_id
        self.attempt = attempt
        self._reporter = reporter
        self._description = {"operation": DEFAULT_OPERATION} | description
        self.owner = str(self._description.pop("owner", reporter.owner))
        self._sequence = FIRST_SEQUENCE - 1
        self._end: tuple[type[Event], dict[str, Any]] | None = None
        self._interruption = Interruption(grace_s)

    @property
    def cancel_requested(self) -> asyncio.Event:
        """Set as soon as this executor learns that the job is to be canceled."""
        return self._interruption.requested

    async def __aenter__(self) -> Self:
        await self._begin(self._description)
        # No await from here on: whoever cancels the block now finds it entered.
        self._interruption.enter()
        self._beating = self._reporter.in_background(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._beating.cancel()
        self._reporter.release(self)
        interrupted = self._interruption.leave(error)
        if isinstance(error, GeneratorExit):
            return False  # nothing may be awaited any more
        end, fields = _end_after(error, self._end, interrupted=interrupted)
        await self._reporter.deliver(self._event(end, **fields), operation=self._operation)
        return interrupted

    async def progress(
        self,
        percent: float | None = None,
        *,
        targets: dict[str, float] | None = None,
        message: str | None = None,
    ) -> None:
        """`percent` and the values of `targets` (target id → percent) are 0 to 100.

        Returns as soon as the buffer has taken it; what the broker has not got yet is merged, the
        latest wins.
        """
        await self._send(
            Progressed,
            percent=None if percent is None else round(percent, 2),
            targets=None if targets is None else {t: round(p, 2) for t, p in targets.items()},
            message=bounded(message),
        )

    async def record(self, target: str, code: int, message: str | None = None) -> None:
        """Appends a line about one target to the job's records."""
        await self._send(Recorded, target=target, code=code, message=bounded(message))

    async def next_attempt(self, message: str | None = None) -> None:
        """Begins the job again: progress starts over, late words of this attempt count no more."""
        self.attempt += 1
        self._sequence = FIRST_SEQUENCE - 1
        await self._begin(self._description | {"message": bounded(message)})

    def succeed(
        self,
        *,
        result: Any = None,
        outcome: Literal["normal", "warning"] | None = None,
        status_code: int | None = None,
        message: str | None = None,
    ) -> None:
        """Chooses the end of the block; `result` is anything that is JSON, at most 256 KiB."""
        self._choose(
            Succeeded, result=result, outcome=outcome, status_code=status_code, message=message
        )

    def fail(self, code: str, text: str = "", *, result: Any = None, **fields: Any) -> None:
        """Chooses failure, with `error` = {code, text}.

        Further: `outcome` (`error`, `partial-failures`), `status_code`, `reason_code`, `message`.
        """
        error = JobError(_cut(code, CODE_MAX) or "error", _cut(text, ERROR_MAX))
        message = fields.pop("message", None) or text or None
        self._choose(Failed, result=result, error=error, message=message, **fields)

    def cancel(self, message: str | None = None, *, result: Any = None) -> None:
        """Chooses `canceled`: the work has been given up because somebody wanted it."""
        self._choose(Canceled, result=result, message=message)

    async def beat(self) -> None:
        """Heartbeats until cancelled; returns at once if the job has no lease."""
        lease_s = self._description.get("lease_s")
        while lease_s is not None:
            await asyncio.sleep(lease_s / BEATS_PER_LEASE)
            self._reporter.beat(self._event(Heartbeat), operation=self._operation)

    @property
    def _operation(self) -> str:
        return str(self._description["operation"])

    def _choose(self, kind: type[Event], *, result: Any, **fields: Any) -> None:
        raw = NO_RESULT if result is None else msgspec.Raw(msgspec.json.encode(result))
        fields |= {"message": bounded(fields["message"]), "result": raw}
        event = self._reporter.event(kind, self.id, owner=self.owner, **fields)
        checked(event, self._operation)  # complains here, in the caller's line, not at the end
        self._end = kind, fields

    async def _begin(self, description: dict[str, Any]) -> None:
        start = self._event(Started, **description)
        await self._reporter.send(start, operation=self._operation, on_cancel=self._on_cancel)

    def _on_cancel(self, _: Command) -> None:
        self._interruption.request()

    async def _send(self, kind: type[Event], **fields: Any) -> None:
        await self._reporter.send(self._event(kind, **fields), operation=self._operation)

    def _event(self, kind: type[E], **fields: Any) -> E:
        self._sequence += 1
        return self._reporter.event(
            kind,
            self.id,
            owner=self.owner,
            attempt=self.attempt,
            sequence=self._sequence,
            **fields,
        )


def bounded(text: str | None) -> str | None:
    """A message as the wire allows it: valid Unicode, at most 1024 characters."""
    return None if text is None else _cut(text, TEXT_MAX)


def _end_after(
    error: BaseException | None,
    chosen: tuple[type[Event], dict[str, Any]] | None,
    *,
    interrupted: bool,
) -> tuple[type[Event], dict[str, Any]]:
    """`interrupted`: the error is our own, made because the job is to be canceled."""
    if error is None or interrupted:
        return chosen or ((Canceled, {"message": "canceled"}) if interrupted else (Succeeded, {}))
    if isinstance(error, asyncio.CancelledError):
        return chosen if chosen and chosen[0] is Canceled else (Canceled, {"message": "canceled"})
    if chosen and chosen[0] is Failed:
        return chosen
    text = str(error)
    why = JobError(_cut(type(error).__name__, CODE_MAX), _cut(text, ERROR_MAX))
    return Failed, {"error": why, "message": bounded(text or None)}


def _cut(text: str, limit: int) -> str:
    clean = text.encode("utf-8", "replace").decode()
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
