"""What is done to whom and when: chosen by the seed alone, so that a run can be had again."""

from collections.abc import Iterator, Mapping
from random import Random
from typing import Final

from msgspec import Struct

SERVICES: Final = ("notifier-a", "notifier-b", "api-a", "api-b")
NODES: Final = ("rabbitmq", "redis")
AMQP_LINKS: Final = ("a-amqp", "b-amqp", "sdk-amqp", "pika-amqp", "subscriber-amqp")
REDIS_LINKS: Final = ("a-redis", "b-redis")
HTTP_LINKS: Final = ("a-http", "b-http")
LINKS: Final = (*AMQP_LINKS, *REDIS_LINKS, *HTTP_LINKS)
CROWDS: Final[Mapping[str, tuple[str, ...]]] = {
    "notifiers": ("notifier-a", "notifier-b"),
    "apis": ("api-a", "api-b"),
}
PROCESS_DEEDS: Final = ("kill", "kill", "kill", "pause", "pause", "restart")
LINK_DEEDS: Final = ("cut", "cut", "refuse", "delay", "stall", "half-close", "lose")
KILLS_AND_PAUSES: Final = frozenset({"kill", "pause"})


class Pace(Struct, frozen=True):
    """Seconds between the ends of one deed and the next, on average, per target; and how long a
    deed lasts. `patient`: there is time for what only a time-out can end."""

    service_s: float
    node_s: float
    link_s: float
    crowd_s: float
    lasts_s: float
    patient: bool


SHORT: Final = Pace(service_s=4.0, node_s=9.0, link_s=8.0, crowd_s=14.0, lasts_s=1.0, patient=False)
LONG: Final = Pace(service_s=3.8, node_s=25.0, link_s=45.0, crowd_s=70.0, lasts_s=2.5, patient=True)
HEARTBEATS_S: Final = 40.0
"""Longer than it takes RabbitMQ, the service and the SDK to give a silent connection up."""
STARTS_S: Final[Mapping[str, float]] = {"rabbitmq": 12.0}
"""Time that a target needs to come back, beyond the deed itself."""


class Deed(Struct, frozen=True, order=True):
    at_s: float
    target: str
    what: str
    lasts_s: float

    @property
    def victims(self) -> tuple[str, ...]:
        return CROWDS.get(self.target, (self.target,))


def plan(seed: int, duration_s: float, pace: Pace) -> list[Deed]:
    """All deeds, by time. Deeds on one target do not overlap, those on different ones do."""
    crowds = [
        deed
        for crowd in CROWDS
        for deed in _deeds(Random(f"{seed} {crowd}"), crowd, duration_s, pace)
    ]
    busy = [(deed.victims, deed.at_s - 4, deed.at_s + deed.lasts_s + 3) for deed in crowds]
    single = [
        deed
        for target in (*SERVICES, *NODES, *LINKS)
        for deed in _deeds(Random(f"{seed} {target}"), target, duration_s, pace)
        if not any(
            target in victims and begin < deed.at_s + deed.lasts_s and deed.at_s < end
            for victims, begin, end in busy
        )
    ]
    return sorted(crowds + single)


def _deeds(chance: Random, target: str, duration_s: float, pace: Pace) -> Iterator[Deed]:
    gap_s = _gap_s(target, pace)
    at_s = gap_s * chance.uniform(0.1, 1.0)
    while at_s < duration_s:
        deed = Deed(round(at_s, 3), target, *_what(chance, target, pace))
        yield deed
        at_s += deed.lasts_s + STARTS_S.get(target, 1.0) + gap_s * chance.uniform(0.4, 1.6)


def _gap_s(target: str, pace: Pace) -> float:
    if target in CROWDS:
        return pace.crowd_s
    if target in NODES:
        return pace.node_s
    return pace.link_s if target in LINKS else pace.service_s


def _what(chance: Random, target: str, pace: Pace) -> tuple[str, float]:
    """The deed and how long it lasts, in seconds."""
    lasts_s = round(pace.lasts_s * chance.uniform(0.2, 1.8), 3)
    if target not in LINKS:
        what = chance.choice(PROCESS_DEEDS)
        long = pace.patient and what == "pause" and target != "redis" and chance.random() < 0.1
        return what, HEARTBEATS_S if long else lasts_s
    what = chance.choice(LINK_DEEDS)
    if what == "lose" and not pace.patient and target not in HTTP_LINKS:
        what = "cut"  # only a heartbeat would find it out
    return what, lasts_s
