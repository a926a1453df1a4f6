"""The certificates that `scripts/up --tls` makes: what is kept, what is made anew."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy import certificates
from deploy.certificates import LIFETIME, RENEWED_BEFORE, Certificates, certificates_in


def contents(certificates: Certificates) -> list[bytes]:
    return [path.read_bytes() for path in (certificates.ca, certificates.cert, certificates.key)]


def test_what_is_good_is_kept_and_nobody_else_reads_the_key(tmp_path: Path) -> None:
    made = certificates_in(tmp_path / "tls")
    before = contents(made)
    assert made.key.stat().st_mode & 0o777 == 0o600
    assert contents(certificates_in(tmp_path / "tls")) == before
    assert sorted(os.listdir(tmp_path / "tls")) == ["ca.pem", "cert.pem", "key.pem"]


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem"])
@pytest.mark.parametrize("harm", ["gone", "garbage", "another's"])
def test_what_does_not_belong_together_is_made_anew(tmp_path: Path, name: str, harm: str) -> None:
    folder, other = tmp_path / "tls", tmp_path / "other"
    before = contents(certificates_in(folder))
    certificates_in(other)
    if harm == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(
            b"garbage" if harm == "garbage" else (other / name).read_bytes()
        )
    after = contents(certificates_in(folder))
    assert not set(before) & set(after)
    assert contents(certificates_in(folder)) == after


def test_what_ends_soon_or_is_for_other_names_is_made_anew(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    before = contents(certificates_in(tmp_path, now=now))
    late = now + LIFETIME - RENEWED_BEFORE + timedelta(hours=1)
    renewed = contents(certificates_in(tmp_path, now=late))
    assert before != renewed
    assert contents(certificates_in(tmp_path, names=["elsewhere.example"])) != renewed


def test_a_key_that_others_could_read_is_made_anew(tmp_path: Path) -> None:
    made = certificates_in(tmp_path)
    before = contents(made)
    made.key.chmod(0o640)
    after = contents(certificates_in(tmp_path))
    assert not set(before) & set(after)
    assert made.key.stat().st_mode & 0o777 == 0o600


def test_a_name_that_no_certificate_can_hold_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "gethostname", lambda: "büro-pc")
    made = certificates_in(tmp_path)
    assert contents(certificates_in(tmp_path)) == contents(made)
    assert made.context().get_ca_certs()
