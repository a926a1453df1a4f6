"""The client id of this user on this machine: made once, kept in a file.

It stands in the names of durable subscriptions. RabbitMQ tells everybody whether a queue of a name
exists, so the name must not be guessed: 128 random bits, mode 0600.
"""

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from jobcast.errors import BadSetting

FORM: Final = re.compile(r"\A[A-Za-z0-9_-]{22,64}\Z")


def own_client_id(environment: Mapping[str, str]) -> str:
    """Reads `jobcast/client-id` below XDG_STATE_HOME (`~/.local/state`), or makes it.

    Raises BadSetting if there can be no such file.
    """
    home = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(home) / "jobcast" / "client-id"
    try:
        if not path.exists():
            _make(path)
        text = path.read_text().strip()
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path}: no client id can be kept there ({error}); give one") from None
    if not FORM.match(text):
        raise BadSetting(f"{path}: not a client id of jobcast; remove the file, or give one")
    return text


def _make(path: Path) -> None:
    """Of two that do so at once, one wins, and both read the same."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = path.with_name(f".client-id.{secrets.token_hex(8)}")
    descriptor = os.open(own, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{secrets.token_hex(16)}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(own, path)
    finally:
        own.unlink()
