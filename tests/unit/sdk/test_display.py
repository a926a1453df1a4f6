"""What of a job has room on a terminal."""

import io

from rich.console import Console

from jobcast.display import Bars, chosen, hidden_from, line_of
from jobcast.watch import Change
from tests.scripted_api import job

TARGETS = {"done": 100.0, "new": 0.0, "under-way": 40.0, "done-too": 100.0, "nearly": 99.9}


def test_all_targets_are_shown_in_their_order_where_there_is_room() -> None:
    assert chosen(TARGETS, 5) == list(TARGETS.items())
    assert hidden_from(TARGETS, 5) == ""


def test_what_is_under_way_is_shown_before_what_is_to_come_and_what_is_done() -> None:
    assert chosen(TARGETS, 3) == [("under-way", 40.0), ("nearly", 99.9)]
    assert hidden_from(TARGETS, 3) == "… 3 more, 2 of them done"
    assert [target for target, _ in chosen(TARGETS, 4)] == ["new", "under-way", "nearly"]


def test_without_any_room_no_target_is_shown() -> None:
    for room in (1, 0, -1):
        assert chosen(TARGETS, room) == []
    assert hidden_from(TARGETS, 1) == "… 5 more, 2 of them done"
    assert hidden_from(TARGETS, 0) == hidden_from(TARGETS, -1) == ""


def test_a_thousand_targets_and_long_words_keep_within_the_terminal() -> None:
    for width, height in ((80, 24), (30, 4), (12, 3), (200, 60)):
        console = Console(width=width, height=height, file=io.StringIO())
        targets = {f"volume-{number}-{'x' * 90}": number / 10 for number in range(1000)}
        bars = Bars(console)
        told = job(name="n" * 256, message="m" * 1024, percent=50, targets=targets)
        bars.show(Change("snapshot", told, None))
        lines = console.render_lines(bars._drawn(), pad=False)
        assert len(lines) == height - 1
        assert all(sum(segment.cell_length for segment in line) <= width for line in lines)


def test_no_word_of_a_stranger_commands_the_terminal() -> None:
    assert line_of(job(message="a\x1b[31m\x9b2J\x07b\nc")).endswith("running a [31m 2J b c")
