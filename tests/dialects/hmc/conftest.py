"""Who asks at the HMC. Where a module has servers of its own, it has another `world`."""

import pytest
import zhmcclient

from deploy.stack import Stack
from tests.dialects.hmc.world import World
from tests.logins import Login


@pytest.fixture(scope="session")
def world(tls_stack: Stack) -> World:
    return World(tls_stack)


@pytest.fixture
def alice(world: World) -> Login:
    return world.fresh("al_ice")


@pytest.fixture
def session(world: World, alice: Login) -> zhmcclient.Session:
    return world.session(alice)
