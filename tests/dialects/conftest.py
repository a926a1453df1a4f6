"""What those clients of the dialects are pointed at that speak TLS alone."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from deploy.certificates import certificates_in
from deploy.stack import Stack


@pytest.fixture(scope="session")
def tls_stack(session_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two API replicas on the run's servers that speak TLS, with a users file that tests edit."""
    folder = tmp_path_factory.mktemp("tls_stack")
    users_file = folder / "users.toml"
    users_file.touch(mode=0o600)
    layout = replace(
        session_stack.layout,
        users_file=users_file,
        folder=folder,
        notifiers=0,
        authority_port=None,
        management_url=None,
        certificates=certificates_in(folder / "tls"),
    )
    with Stack(layout) as stack:
        yield stack
