import logging
import os
import stat
from pathlib import Path

import pytest

from api.users import add_user, new_keys, remove_user, rotate_token
from notifier.users import BadUsersFile, Users, digest, load

HEX = digest("a token")


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.toml"


def test_an_added_user_is_known_by_token_and_by_name(path: Path) -> None:
    token = add_user(path, "alice@corp", ["subscriber", "executor", "subscriber"])
    users = Users(path)
    user = users.by_digest(digest(token))
    assert user is not None
    assert (user.name, user.roles) == ("alice@corp", ["subscriber", "executor"])
    assert users.by_name("alice@corp") == user
    assert users.by_digest(digest(token + "x")) is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token not in path.read_text()


def test_a_change_of_the_file_counts_at_once(path: Path) -> None:
    old = add_user(path, "alice", ["subscriber"])
    users = Users(path)
    new = rotate_token(path, "alice")
    assert users.by_digest(digest(old)) is None
    assert users.by_digest(digest(new)) is not None
    remove_user(path, "alice")
    assert users.by_digest(digest(new)) is None


def test_an_error_in_a_changed_file_leaves_the_old_users_in_force(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = add_user(path, "alice", ["subscriber"])
    users = Users(path)
    with caplog.at_level(logging.ERROR):
        for text in ("[[user]\n", f'[[user]]\nname = "bob"\nroles = ["{token}"]\n'):
            write(path, text)
            assert users.by_digest(digest(token)) is not None
        path.unlink()
        assert users.by_digest(digest(token)) is not None
    assert len(caplog.records) == 3
    again = add_user(path, "carol", ["admin"])
    assert users.by_digest(digest(again)) is not None
    assert users.by_digest(digest(token)) is None


def test_editing_leaves_other_entries_as_they_are_written(path: Path) -> None:
    text = f'# by hand\n[[user]]\nname="bob" # he\nroles=[]\ntoken_sha256 = [\n "{HEX}"\n]\n'
    write(path, text)
    add_user(path, "alice", ["subscriber"])
    assert path.read_text().startswith(text)
    rotate_token(path, "bob")
    assert HEX not in path.read_text()
    assert 'name="bob" # he' in path.read_text()
    remove_user(path, "alice")
    remove_user(path, "bob")
    assert path.read_text() == "# by hand\n"


def test_a_user_with_keys_is_known_by_them_until_they_are_rotated(path: Path) -> None:
    keys, others = new_keys(), new_keys()
    add_user(path, "alice", ["subscriber"], keys=keys)
    add_user(path, "bob", ["subscriber"])
    users = Users(path)
    user = users.by_api_key(keys.api_key)
    assert user is not None
    assert (user.name, user.cloudstack) == ("alice", keys)
    rotate_token(path, "alice", keys=others)
    assert users.by_api_key(keys.api_key) is None
    assert users.by_api_key(others.api_key) is not None
    token = rotate_token(path, "alice")
    assert users.by_api_key(others.api_key) is None
    assert users.by_digest(digest(token)) is not None
    assert "cloudstack" not in path.read_text()
    rotate_token(path, "bob", keys=keys)
    assert users.by_api_key(keys.api_key) is not None
    remove_user(path, "bob")
    assert users.by_api_key(keys.api_key) is None


def test_keys_written_in_another_way_are_not_left_behind_by_rotation(path: Path) -> None:
    secret = "s" * 22
    entry = f'[[user]]\nname = "bob"\nroles = []\ntoken_sha256 = ["{HEX}"]\n'
    own = f'{entry}cloudstack = {{api_key="k",secret_key="{secret}"}} # hers'
    write(path, own)
    rotate_token(path, "bob")
    assert secret not in path.read_text()
    table = f'{entry}[user.cloudstack]\napi_key = "k"\nsecret_key = "{secret}"\n'
    write(path, table)
    with pytest.raises(ValueError, match="can be edited"):
        rotate_token(path, "bob")
    assert path.read_text() == table


@pytest.mark.parametrize(
    "keys",
    [
        'api_key = "", secret_key = "{}"',
        'api_key = "k", secret_key = ""',
        'api_key = "k", secret_key = "short"',
        'api_key = "k"',
    ],
)
def test_keys_that_are_none_are_refused(path: Path, keys: str) -> None:
    entry = '[[user]]\nname = "a"\nroles = []\ntoken_sha256 = []\n'
    write(path, f"{entry}cloudstack = {{ {keys.format('s' * 22)} }}\n")
    with pytest.raises(BadUsersFile, match="cloudstack"):
        load(path)


@pytest.mark.parametrize("name", ["guest", "service", "", "a b", "a/b", "a\n", "ü", "x" * 65])
def test_names_that_are_reserved_or_cannot_be_owners_are_refused(path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"reserved|1 to 64"):
        add_user(path, name, ["subscriber"], {"service"})
    assert not path.exists()


def test_a_name_is_given_once_and_must_exist_to_be_edited(path: Path) -> None:
    add_user(path, "alice", ["subscriber"])
    with pytest.raises(ValueError, match="there already"):
        add_user(path, "alice", ["admin"])
    with pytest.raises(ValueError, match="no user bob"):
        remove_user(path, "bob")
    with pytest.raises(ValueError, match="not a role"):
        add_user(path, "bob", ["root"])


def test_users_written_inline_are_read_but_not_edited(path: Path) -> None:
    write(path, f'user = [{{name = "bob", roles = [], token_sha256 = ["{HEX}"]}}]\n')
    assert Users(path).by_digest(digest("a token")) is not None
    with pytest.raises(ValueError, match="by hand"):
        remove_user(path, "bob")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[user]]\nname = 3\n", "name"),
        ('[[user]]\nname = "a"\n', "roles"),
        ('[[user]]\nname = "a"\nroles = ["root"]\ntoken_sha256 = []\n', "roles"),
        ('[[user]]\nname = "a"\nroles = []\ntoken_sha256 = ["12"]\n', "token_sha256"),
        ('[[user]]\nname = "a"\nroles = []\ntoken_sha256 = []\ntokens = []\n', "tokens"),
        ('[[user]]\nname = "guest"\nroles = []\ntoken_sha256 = []\n', "guest is a reserved name"),
        ('[[user]]\nname = "a b"\nroles = []\ntoken_sha256 = []\n', r"user\[0\].name"),
        ('[[user]]\nname = "a"\nroles = []\ntoken_sha256 = []\n' * 2, "twice"),
        ("[[user]]\nname = \n", "line 2"),
        ('[[users]]\nname = "a"\n', "users"),
    ],
)
def test_an_error_names_the_field_or_the_line(path: Path, text: str, said: str) -> None:
    write(path, text)
    with pytest.raises(BadUsersFile, match=said) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_one_token_belongs_to_one_user(path: Path) -> None:
    entry = '[[user]]\nname = "{}"\nroles = []\ntoken_sha256 = ["{}"]\n'
    write(path, entry.format("a", HEX) + entry.format("b", HEX.upper()))
    with pytest.raises(BadUsersFile, match="another user's"):
        load(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(path: Path, mode: int) -> None:
    write(path, "", mode)
    with pytest.raises(BadUsersFile, match="chmod 600"):
        load(path)


def test_a_failed_edit_leaves_no_trace(path: Path) -> None:
    write(path, "[[user]\n")
    with pytest.raises(BadUsersFile):
        add_user(path, "alice", ["subscriber"])
    assert os.listdir(path.parent) == [path.name]
    assert path.read_text() == "[[user]\n"


def test_the_generation_rises_with_every_change_and_with_no_bad_one(path: Path) -> None:
    add_user(path, "alice", ["subscriber"])
    users = Users(path)
    first = users.generation
    assert [user.name for user in users.all()] == ["alice"]
    assert users.generation == first
    rotate_token(path, "alice")
    users.refresh()
    assert users.generation > first
    changed = users.generation
    write(path, "[[user]\n")
    assert [user.name for user in users.all()] == ["alice"]
    assert users.generation == changed


def test_a_file_that_others_may_read_from_now_on_leaves_the_old_users_in_force(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = add_user(path, "alice", ["subscriber"])
    users = Users(path)
    path.chmod(0o644)
    assert users.by_digest(digest(token)) is not None
    assert "chmod 600" in caplog.text
    assert token not in caplog.text


@pytest.mark.parametrize(
    ("name", "allowed"), [("carol", True), ("guest", False), ("service", False), ("a/b", False)]
)
def test_a_user_of_an_issuer_is_called_as_one_of_the_file_may_be(
    path: Path, name: str, allowed: bool
) -> None:
    add_user(path, "alice", ["subscriber"])
    assert Users(path, {"service"}).may_be_called(name) is allowed
