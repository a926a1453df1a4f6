"""How much one user may ask for: a token bucket per user, in memory, for this process alone."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

USERS_MAX: Final = 10_000  # beyond it the user longest unseen is forgotten, as if idle


class Rate:
    """`per_s` requests a second for each user, with bursts of one second's worth."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = max(1.0, per_s)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def delay(self, user: str) -> float:
        """0 if the request may go on (it is then counted), else the seconds until one may."""
        now = self._clock()
        tokens, then = self._buckets.get(user, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._per_s)
        allowed = tokens >= 1
        self._buckets[user] = (tokens - allowed, now)
        self._buckets.move_to_end(user)
        if len(self._buckets) > USERS_MAX:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / self._per_s
