"""What a notifier counts, as it is exported. No I/O but /proc."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import prometheus_client
import pytest

import jobcast
from notifier.figures import OTHER, REASONS, Exported, Figures, process_name

SOURCES = sorted(Path(jobcast.__file__).parent.glob("*.py"))


def values(figures: Figures) -> dict[str, float]:
    """By name; the sum over all labels."""
    found: dict[str, float] = {}
    for family in figures.exported().families:
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def test_all_begins_at_nought_and_is_there_before_anything_has_happened() -> None:
    first = values(Figures())
    ours = {name: value for name, value in first.items() if "_process_" not in name}
    assert set(ours.values()) == {0}
    assert {"jobcast_dead_letters_total", "jobcast_lost_verdicts_total"} <= ours.keys()


CALLS: Final[Mapping[str, Callable[[Figures], None]]] = {
    "jobcast_batch_messages_sum": lambda figures: figures.taken(1),
    "jobcast_batch_seconds_sum": lambda figures: figures.settled(1),
    "jobcast_events_total": lambda figures: figures.read(1),
    "jobcast_commits_total": lambda figures: figures.committed(1, 0),
    "jobcast_changes_total": lambda figures: figures.committed(0, 0, 1),
    "jobcast_commit_seconds_sum": lambda figures: figures.committed(0, 1),
    "jobcast_conflicts_total": lambda figures: figures.conflicted(1),
    "jobcast_redis_waits_total": lambda figures: figures.waited(),
    "jobcast_notifications_total": lambda figures: figures.notified(1, 0),
    "jobcast_notify_seconds_sum": lambda figures: figures.notified(0, 1),
    "jobcast_notifications_refused_total": lambda figures: figures.refused(1),
    "jobcast_notifications_given_up_total": lambda figures: figures.given_up(1),
    "jobcast_dead_letters_total": lambda figures: figures.dead_lettered("poison"),
    "jobcast_lost_verdicts_total": lambda figures: figures.lost(1),
    "jobcast_queries_total": lambda figures: figures.asked("job"),
}
COUNTED: Final = re.compile(r"jobcast_(?!notifier_).*(_total|_sum)")


def test_every_number_has_a_call_that_moves_it() -> None:
    assert {name for name in values(Figures()) if COUNTED.fullmatch(name)} == CALLS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_a_call_moves_its_own_number_and_no_other(name: str) -> None:
    figures = Figures()
    CALLS[name](figures)
    after = values(figures)
    assert {key: after[key] for key in CALLS if after[key]} == {name: 1}


def test_a_reason_that_is_not_ours_counts_as_other() -> None:
    figures = Figures()
    figures.dead_lettered("whatever an executor may have written")
    dead = {
        sample.labels["reason"]: sample.value
        for family in figures.exported().families
        for sample in family.samples
        if sample.name == "jobcast_dead_letters_total"
    }
    assert dead.keys() == REASONS | {OTHER}
    assert {reason for reason, value in dead.items() if value} == {OTHER}


def test_every_reason_in_the_code_is_a_value_of_the_label() -> None:
    """As literals stand in `_Bad("…", …)` and `Refusal("…", …)`."""
    literal = re.compile(r'(?:_Bad|Refusal)\(\s*"([a-z-]+)"')
    found = {reason for path in SOURCES for reason in literal.findall(path.read_text())}
    assert len(found) >= 8
    assert found <= REASONS


def test_what_is_exported_survives_its_way_through_json() -> None:
    figures = Figures()
    figures.taken(5)
    exported = figures.exported()
    assert msgspec.json.decode(msgspec.json.encode(exported), type=Exported) == exported
    assert not any(
        sample.name.endswith("_created") for one in exported.families for sample in one.samples
    )


def test_the_registry_of_the_library_is_left_alone() -> None:
    Figures().taken(1)
    Figures().taken(1)
    names = {family.name for family in prometheus_client.REGISTRY.collect()}
    assert not any(name.startswith("jobcast") for name in names)


def test_each_start_has_a_name_of_its_own() -> None:
    assert re.fullmatch(r"[^\s/]+-\d+-[0-9a-f]+", process_name())
