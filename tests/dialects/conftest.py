"""What those clients of the dialects are pointed at that speak TLS alone."""

from collections.abc import Iterator

import pytest

from deploy.certificates import certificates_in
from deploy.stack import Stack
from tests.replicas import replicas_beside


@pytest.fixture(scope="session")
def tls_stack(session_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two API replicas on the run's servers that speak TLS, with a users file that tests edit."""
    folder = tmp_path_factory.mktemp("tls_stack")
    users_file = folder / "users.toml"
    users_file.touch(mode=0o600)
    certificates = certificates_in(folder / "tls")
    own = {"users_file": users_file, "certificates": certificates, "http_ports": (0, 0)}
    with replicas_beside(session_stack, folder, **own) as stack:
        yield stack
