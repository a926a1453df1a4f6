"""Real work for `scripts/up --demo`: `python -m deploy.demo_work pack|verify`.

It knows nothing of jobcast: it prints percentages, a last line, and ends with an exit code, as many
programs do. `jobcast run` makes jobs of it.
"""

import hashlib
import lzma
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

FILES: Final = 25
FILE_BYTES: Final = 1_500_000


def pack(folder: Path) -> int:
    """Compresses generated files, for some seconds."""
    packed = 0
    for number in range(1, FILES + 1):
        path = folder / f"{number:02}.bin"
        path.write_bytes(os.urandom(FILE_BYTES // 2) + bytes(FILE_BYTES // 2))
        packed += len(lzma.compress(path.read_bytes()))
        say(f"{number * 100 // FILES}% packed {path.name}")
    say(f"packed {FILES} files: {FILES * FILE_BYTES} bytes became {packed}")
    return 0


def verify(folder: Path) -> int:
    """Finds the damage that was done to one of the files, and fails."""
    content = os.urandom(FILE_BYTES)
    for number in range(1, FILES + 1):
        path = folder / f"{number:02}.bin"
        path.write_bytes(content if number < FILES else content[:-1] + b"!?")
        if hashlib.sha256(path.read_bytes()).digest() != hashlib.sha256(content).digest():
            say(f"checksum of {path.name} differs")
            return 1
        say(f"{number * 100 // FILES}% verified {path.name}")
    return 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


WORK: Final[Mapping[str, Callable[[Path], int]]] = {"pack": pack, "verify": verify}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="jobcast-demo-") as folder:
        return WORK[sys.argv[1]](Path(folder))


if __name__ == "__main__":
    sys.exit(main())
