"""Secrets that are made once and kept in files which nobody else can read."""

import os
import secrets
from pathlib import Path


def kept_secret(path: Path) -> str:
    """The one in the file, made at the first time."""
    if not path.exists() or not path.stat().st_size:  # a full disk leaves an empty file behind
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        write_secret(path, secrets.token_hex(16), 0o600)
    return path.read_text()


def write_secret(path: Path, text: str, mode: int) -> None:
    """A new file that nobody else can read at any time. Raises FileExistsError."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
