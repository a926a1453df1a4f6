"""Draws the state diagram of docs/protocol.md from the status table: `python -m deploy.diagram`."""

import re
from pathlib import Path
from typing import Final

from jobcast.job import FINAL, NEXT, Status

PROTOCOL: Final = Path(__file__).resolve().parent.parent / "docs" / "protocol.md"
BEGIN: Final = "<!-- state diagram: drawn by `python -m deploy.diagram` -->\n"
END: Final = "<!-- end of the state diagram -->\n"


def state_diagram() -> str:
    """The table as a Mermaid diagram; statuses in the order in which they are defined."""
    names = {status: status.value.replace("-", "_") for status in Status}
    lines = ["stateDiagram-v2"]
    lines += [f'    state "{s.value}" as {names[s]}' for s in Status if names[s] != s.value]
    lines += ["    [*] --> queued", "    [*] --> running"]
    lines += [
        f"    {names[status]} --> {names[following]}"
        for status in Status
        for following in Status
        if following in NEXT[status]
    ]
    lines += [f"    {names[status]} --> [*]" for status in Status if status in FINAL]
    return "\n".join(lines) + "\n"


def with_diagram(text: str) -> str:
    """The document with its diagram redrawn."""
    block = f"{BEGIN}```mermaid\n{state_diagram()}```\n{END}"
    return re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: block, text, flags=re.DOTALL)


if __name__ == "__main__":
    PROTOCOL.write_text(with_diagram(PROTOCOL.read_text()))
