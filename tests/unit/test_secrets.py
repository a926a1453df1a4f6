"""Secrets that are made once."""

from pathlib import Path

from deploy.secrets import kept_secret


def test_a_secret_is_made_once_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    secret = kept_secret(path)
    assert len(secret) == 32
    assert kept_secret(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    """A password that is empty would be one that everybody knows."""
    path = tmp_path / "secret"
    path.touch(0o644)
    assert len(kept_secret(path)) == 32
    assert path.stat().st_mode & 0o777 == 0o600
