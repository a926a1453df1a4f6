from pathlib import Path

import pytest

from api.identity import Identity
from api.tenure import WARNING_S, Tenure
from api.users import remove_user, rotate_token
from tests.unit.api.door import Alice


class Open:
    """Something open, and what it was told."""

    def __init__(self, identity: Identity | None) -> None:
        assert identity is not None
        self.identity = identity
        self.warned = False
        self.told: list[int | str] = []

    def warn(self, left_s: int) -> None:
        self.warned = True
        self.told.append(left_s)

    def end(self, why: str) -> None:
        self.told.append(why)


@pytest.fixture
def alice(tmp_path: Path) -> Alice:
    return Alice(tmp_path / "users.toml")


def entered(tenure: Tenure, identity: Identity | None) -> Open:
    held = Open(identity)
    tenure.enter(held)
    return held


def test_an_expiry_is_told_once_and_then_ends_it(alice: Alice) -> None:
    tenure = Tenure(alice.by.users)
    held = entered(tenure, Identity("carol", (), "jwt", "", 1_000))
    for now in (900, 999 - WARNING_S, 1_000 - WARNING_S, 980, 999.5):
        tenure.check(now)
    assert held.told == [30]
    tenure.check(1_000)
    assert held.told == [30, "expired"]


def test_what_has_left_is_told_nothing(alice: Alice) -> None:
    tenure = Tenure(alice.by.users)
    held = entered(tenure, Identity("carol", (), "jwt", "", 1_000))
    tenure.leave(held)
    tenure.check(2_000)
    assert held.told == []


def test_a_rotated_token_and_a_removed_user_end_theirs_alone(alice: Alice) -> None:
    tenure = Tenure(alice.by.users)
    old = entered(tenure, alice.identity(authorization=f"Bearer {alice.token}"))
    carol = entered(tenure, Identity("carol", (), "jwt", "", 1_000))
    tenure.check(0)
    assert old.told == []
    token = rotate_token(alice.path, "al:ice")
    tenure.check(0)
    assert old.told == ["revoked"]
    tenure.leave(old)
    new = entered(tenure, alice.identity(authorization=f"Bearer {token}"))
    remove_user(alice.path, "al:ice")
    tenure.check(0)
    assert new.told == ["revoked"]
    assert carol.told == []


def test_a_role_that_is_taken_ends_what_hangs_on_it(alice: Alice) -> None:
    tenure = Tenure(alice.by.users)
    held = entered(tenure, alice.identity(authorization=f"Bearer {alice.token}"))
    alice.path.write_text(alice.path.read_text().replace('"subscriber"', '"executor"'))
    tenure.check(0)
    assert held.told == ["revoked"]
