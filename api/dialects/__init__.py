"""Other job facilities' APIs, spoken on the native model: one file each, and one line below.

A dialect is a table of mappings and its own errors, on `api.facility`. It answers under its own
paths, knows who asks in its own way, and has no state of jobs.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final

from starlette.routing import BaseRoute

if TYPE_CHECKING:
    from api.facility import Facility

Made = Callable[["Facility"], Sequence[BaseRoute]]
"""The routes of a dialect; its handlers do all the asking themselves, who it is included."""

DIALECTS: Final[Mapping[str, str]] = {
    "hmc": "api.dialects.hmc.service",
    "cloudstack": "api.dialects.cloudstack.commands",
    "netapp": "api.dialects.netapp.served",
    "cisco": "api.dialects.cisco.mount",
}
"""What each is called in `JOBCAST_DIALECTS`, and the module that has its `routes`: a `Made`."""


def routes(names: Collection[str], facility: "Facility") -> list[BaseRoute]:
    """Those of the dialects that are switched on; the others are not even imported."""
    found: list[BaseRoute] = []
    for name, module in DIALECTS.items():
        if name in names:
            made: Made = import_module(module).routes
            found += made(facility)
    return found
