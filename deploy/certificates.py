"""A certificate authority of this machine's own, and the one certificate that it has signed.

Owns the files in its folder: `ca.pem` for clients to trust, `cert.pem` and `key.pem` for servers.
Promises: nobody else can read the key; what is found and still good is kept, so that clients which
trust it go on. Never keeps the authority's own key: nothing further can be signed with it, by
anybody, and what is to be renewed gets a new authority.
"""

import ipaddress
import ssl
import stat
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import gethostname
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.secrets import write_secret

LIFETIME: Final = timedelta(days=397)
RENEWED_BEFORE: Final = timedelta(days=30)
SKEW: Final = timedelta(hours=1)
LOCAL: Final = ("localhost", "127.0.0.1", "::1")
COMMON_NAME_MAX: Final = 64
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
UNUSABLE: Final = (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound)


class Certificates(msgspec.Struct, frozen=True):
    """Where the files are."""

    ca: Path
    cert: Path
    key: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes OpenSSL, and so Python's clients, trust the authority."""
        return {"SSL_CERT_FILE": str(self.ca)}

    def context(self) -> ssl.SSLContext:
        """A client's, that trusts the authority and no other."""
        return ssl.create_default_context(cafile=self.ca)


def certificates_in(
    folder: Path, *, names: Collection[str] | None = None, now: datetime | None = None
) -> Certificates:
    """Those of the folder, made if there are none, or none for these names (default: this
    machine's) and long enough."""
    now = now or datetime.now(UTC)
    found = Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    names = dict.fromkeys([*LOCAL, *_own_name()]) if names is None else names
    if not _are_good(found, names, now):
        folder.mkdir(parents=True, exist_ok=True)
        _make(found, names, now)
    return found


def _own_name() -> list[str]:
    """This machine's, if a certificate can hold it: it may be of other letters than ASCII."""
    name = gethostname()
    return [name] if name.isascii() else []


def _are_good(found: Certificates, names: Collection[str], now: datetime) -> bool:
    """Whether all three belong together, for these names, for long enough, and nobody else has
    been able to read the key."""
    try:
        if found.key.stat().st_mode & OTHERS:
            return False
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(found.cert, found.key)  # raises if the key is another's
        ca = x509.load_pem_x509_certificate(found.ca.read_bytes())
        cert = x509.load_pem_x509_certificate(found.cert.read_bytes())
        cert.verify_directly_issued_by(ca)
        held = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except UNUSABLE:
        return False
    return (
        set(map(_general, names)) <= set(held) and cert.not_valid_after_utc - RENEWED_BEFORE > now
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _make(wanted: Certificates, names: Collection[str], now: datetime) -> None:
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = _called(f"jobcast on {gethostname()}, {now:%Y-%m-%d}")
    ca = (
        _begun(ca_name, ca_name, ca_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(_identifier(ca_key), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    cert = (
        _begun(_called("jobcast"), ca_name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(map(_general, names)), critical=False)
        .add_extension(_identifier(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _replace(wanted.key, private, 0o600)
    _replace(wanted.cert, cert.public_bytes(serialization.Encoding.PEM), 0o644)
    _replace(wanted.ca, ca.public_bytes(serialization.Encoding.PEM), 0o644)


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:COMMON_NAME_MAX])])


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + LIFETIME)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _identifier(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _replace(path: Path, content: bytes, mode: int) -> None:
    """A new file that nobody else could open at any time, in the place of an old one."""
    path.unlink(missing_ok=True)
    write_secret(path, content.decode(), mode)
