"""The documents that are generated from the code are up to date."""

from deploy.diagram import PROTOCOL, state_diagram, with_diagram
from jobcast.job import NEXT


def test_the_state_diagram_in_the_protocol_is_drawn_from_the_table() -> None:
    text = PROTOCOL.read_text()
    assert state_diagram() in text
    assert with_diagram(text) == text


def test_the_diagram_has_an_arrow_for_every_step_of_the_table() -> None:
    steps = sum(len(following) for following in NEXT.values())
    inner = [line for line in state_diagram().splitlines() if "-->" in line and "[*]" not in line]
    assert len(inner) == steps
