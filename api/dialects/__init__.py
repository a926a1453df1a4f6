"""Other job facilities' APIs, spoken on the native model: one file each, and one line below.

A dialect is a table of mappings and its own errors, on `api.facility`. It answers under its own
paths, knows who asks in its own way, and has no state of jobs.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from starlette.routing import BaseRoute

from api.facility import Facility

Made = Callable[[Facility], Sequence[BaseRoute]]
"""The routes of a dialect; its handlers do all the asking themselves, who it is included."""

DIALECTS: Final[Mapping[str, Made]] = {}


def routes(names: Collection[str], facility: Facility) -> list[BaseRoute]:
    """Those of the dialects that are switched on."""
    return [route for name, made in DIALECTS.items() if name in names for route in made(facility)]
