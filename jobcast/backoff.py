"""How long to wait before trying again: full jitter, so that many do not come back at once."""

import random
from typing import Final

BASE_S: Final = 0.2
CAP_S: Final = 10.0

_chance = random.SystemRandom()


def jitter(limit_s: float) -> float:
    """Any time from 0 to `limit_s` seconds."""
    return _chance.uniform(0.0, limit_s)


def delay_after(failures: int, *, base_s: float = BASE_S, cap_s: float = CAP_S) -> float:
    """Seconds to wait after that many failures in a row; the limit doubles up to `cap_s`."""
    return jitter(min(cap_s, base_s * 2 ** min(failures, 30)))
