"""What one API process counts (docs/metrics.md).

Promises: bounded labels, and never a user's, owner's or job's name, a path or a token in one.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

KINDS: Final = ("feed", "job")
ANSWERS: Final = ("fresh", "resumed", "reset", "none")
CUTS: Final = ("stuck", "shutdown", "unavailable", "revoked", "expired")
PUT_OFF: Final = ("user-limit", "process-limit", "rate", "draining", "unavailable")
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CLASSES: Final = ("0xx", "1xx", "2xx", "3xx", "4xx", "5xx")


class Opening(msgspec.Struct):
    """What the first event of a stream says."""

    resume: str = ""


OPENING: Final = msgspec.json.Decoder(Opening)


class ApiFigures:
    """What one API process counts. Frames and requests are plain numbers: they are many."""

    def __init__(self, streams_max: int) -> None:
        own = self.registry = CollectorRegistry()  # the library's default one is never used
        ProcessCollector(registry=own)
        self.frames = 0
        own.register(self)

        def counters(name: str, text: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
            family = Counter(f"jobcast_{name}", text, [label], registry=own)
            return {value: family.labels(value) for value in values}

        limit = Gauge(
            "jobcast_streams_limit", "Streams that this replica holds at most", registry=own
        )
        limit.set(streams_max)
        open_ = Gauge("jobcast_streams_open", "Streams open now", ["kind"], registry=own)
        self._open = {kind: open_.labels(kind) for kind in KINDS}
        self._opened = counters("streams_opened_total", "Streams begun", "kind", KINDS)
        self._answers = counters(
            "stream_resumes_total", "Answers to a stream's cursor; none is a 204", "answer", ANSWERS
        )
        self._cuts = counters("streams_cut_total", "Streams that we ended early", "cause", CUTS)
        self._put_off = counters(
            "streams_put_off_total", "Streams told to come later", "cause", PUT_OFF
        )
        self._polls = Gauge("jobcast_long_polls_waiting", "Long polls in hand", registry=own)
        self._requests: dict[tuple[str, str, str], int] = {}

    def entered(self, kind: str) -> None:
        self._open[kind].inc()

    def left(self, kind: str) -> None:
        self._open[kind].dec()

    def began(self, kind: str, opening: bytes) -> None:
        """A stream of this kind sends `opening`, the body of its first event."""
        self._opened[kind].inc()
        self.frames += 1
        self.answered(OPENING.decode(opening).resume)

    def answered(self, answer: str) -> None:
        if answer in self._answers:
            self._answers[answer].inc()

    def cut(self, cause: str, streams: int = 1) -> None:
        self._cuts[cause].inc(streams)

    def put_off(self, cause: str) -> None:
        self._put_off[cause].inc()

    def request(self, scope: Scope, status: int) -> None:
        """The request was answered with this status."""
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = scope.get("route")
        template = route.path if isinstance(route, Route) else "none"
        key = (method, template, CLASSES[status // 100])
        self._requests[key] = self._requests.get(key, 0) + 1

    def polled(self, app: ASGIApp) -> ASGIApp:
        """`app`, with its requests that ask to wait counted while they do."""

        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            if not asks_to_wait(scope):
                await app(scope, receive, send)
                return
            self._polls.inc()
            try:
                await app(scope, receive, send)
            finally:
                self._polls.dec()

        return call

    def collect(self) -> Iterator[Metric]:
        """What is not kept by an object of the library's own."""
        text = "Events, snapshots and heartbeats sent on streams"
        yield CounterMetricFamily("jobcast_stream_frames", text, self.frames)
        text = "Requests answered; a stream counts when it begins"
        labels = ("method", "route", "status")
        requests = CounterMetricFamily("jobcast_http_requests", text, labels=labels)
        for values, count in self._requests.items():
            requests.add_metric(values, count)
        yield requests


def asks_to_wait(scope: Scope) -> bool:
    return b"wait=" in scope["query_string"] or any(
        name == b"prefer" and b"wait" in value for name, value in scope["headers"]
    )
