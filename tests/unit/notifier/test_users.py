"""Who is an admin, for a process that has no door of its own. The file: api/test_users.py."""

from pathlib import Path

import pytest

from api.users import add_user, remove_user
from notifier.users import Admins


def test_admins_are_those_of_the_file_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "users.toml"
    add_user(path, "alice", ["subscriber"])
    add_user(path, "root", ["subscriber", "admin"])
    admins = Admins(path)
    assert "root" in admins
    assert "alice" not in admins
    assert "nobody" not in admins
    remove_user(path, "root")
    assert "root" not in admins


def test_without_a_file_that_can_be_used_nobody_is_an_admin_until_there_is_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "users.toml"
    admins = Admins(path)
    assert "root" not in admins
    assert "root" not in admins
    assert len([record for record in caplog.records if "users.toml" in record.message]) == 1
    add_user(path, "root", ["admin"])
    assert "root" in admins


def test_the_service_is_no_admin(tmp_path: Path) -> None:
    path = tmp_path / "users.toml"
    add_user(path, "jobcast", ["admin"])
    assert "jobcast" not in Admins(path, {"jobcast"})
