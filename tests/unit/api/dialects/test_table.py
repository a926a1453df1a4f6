"""The table of dialects: names of modules, which nothing else looks at."""

from importlib import import_module
from types import SimpleNamespace
from typing import cast

import pytest
from starlette.routing import BaseRoute

from api.dialects import DIALECTS, routes
from api.facility import Facility
from api.settings import read

# Routes are made before anything is asked for.
FACILITY = cast(
    "Facility", SimpleNamespace(settings=read({}), streams=SimpleNamespace(figures=None))
)


@pytest.mark.parametrize("name", DIALECTS)
def test_every_module_of_the_table_makes_routes(name: str) -> None:
    found = routes([name], FACILITY)
    assert found
    assert all(isinstance(route, BaseRoute) for route in found)
    assert len(found) == len(import_module(DIALECTS[name]).routes(FACILITY))


def test_the_setting_takes_its_names_from_the_table() -> None:
    assert read({}).dialects == tuple(DIALECTS)
    assert read({"JOBCAST_DIALECTS": "none"}).dialects == ()
    assert routes((), FACILITY) == []
