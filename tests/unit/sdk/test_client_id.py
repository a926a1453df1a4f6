"""The client id that is made once."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobcast.client_id import own_client_id
from jobcast.errors import BadSetting


def test_it_is_made_once_for_this_user_alone(tmp_path: Path) -> None:
    environment = {"XDG_STATE_HOME": str(tmp_path / "state")}
    made = own_client_id(environment)
    assert len(bytes.fromhex(made)) == 16
    assert own_client_id(environment) == made
    (path,) = (tmp_path / "state" / "jobcast").iterdir()
    assert path.name == "client-id"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert own_client_id({"XDG_STATE_HOME": str(tmp_path / "other")}) != made


def test_all_who_make_it_at_once_have_the_same(tmp_path: Path) -> None:
    environment = {"XDG_STATE_HOME": str(tmp_path)}
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: own_client_id(environment), range(50)))
    assert len(made) == 1


def test_without_the_variable_it_is_below_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    made = own_client_id({})
    assert (tmp_path / ".local/state/jobcast/client-id").read_text().strip() == made


@pytest.mark.parametrize("content", ["", "guess", "x" * 65, "a b" * 10, "\xff"])
def test_a_file_that_holds_something_else_is_an_error_that_names_it(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "jobcast" / "client-id"
    path.parent.mkdir()
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(BadSetting, match="client-id"):
        own_client_id({"XDG_STATE_HOME": str(tmp_path)})


def test_where_nothing_can_be_kept_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "jobcast").write_text("a file, not a folder")
    with pytest.raises(BadSetting, match="client-id"):
        own_client_id({"XDG_STATE_HOME": str(tmp_path)})
