"""The golden files: what is on the wire, to the byte, in tests/golden/."""

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[2] / "golden"


def golden(name: str) -> bytes:
    """The file's one line."""
    return (FOLDER / f"{name}.json").read_bytes().removesuffix(b"\n")
