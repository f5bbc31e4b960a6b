"""The facility's certificate authority and the certificates that it signs. Made on day 0, renewed by themselves."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from boathouse import atomic
from boathouse.plan.model import Certificate

_CA_LIFETIME = dt.timedelta(days=3650)
# Clocks differ: a certificate is valid from a little before it is made.
_BACKDATED = dt.timedelta(hours=1)
_RENEW_AT = 1 / 3

HOST_DIRECTORY = Path("/etc/ssl/certs")
"""Where the host keeps its authorities under their OpenSSL hash names."""

HOST_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


def ensure_authority(directory: Path, facility: str, own: atomic.Own, *, more: bytes = b"") -> None:
    """Make the CA if it is not there: ``ca.pem``, ``ca.key``, ``bundle.pem``, ``hashed/<hash>.0``.

    ``hashed-public`` holds links to the host's authorities as well. The bundle holds the host's trusted authorities
    and the facility's, so that one variable serves a client which talks to both; and further ones, as PEM, if given.
    """
    certificate_path, key_path = directory / "ca.pem", directory / "ca.key"
    if not (certificate_path.exists() and key_path.exists()):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Boathouse"),
                x509.NameAttribute(NameOID.COMMON_NAME, f"Boathouse CA of {facility}"),
            ]
        )
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + _CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        atomic.write(key_path, _private(key), mode=0o600, own=own)
        atomic.write(certificate_path, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644, own=own)
    own_pem = certificate_path.read_bytes()
    host = next((Path(path).read_bytes() for path in HOST_BUNDLES if Path(path).is_file()), b"")
    bundle = b"\n".join(part.rstrip(b"\n") for part in (host, more, own_pem) if part) + b"\n"
    bundle_path = directory / "bundle.pem"
    if not bundle_path.exists() or bundle_path.read_bytes() != bundle:
        atomic.write(bundle_path, bundle, mode=0o644, own=own)
    _fill_hashed(directory / "hashed", own_pem, own)
    _fill_hashed(directory / "hashed-public", own_pem, own, beside=HOST_DIRECTORY)


def _fill_hashed(hashed: Path, own_pem: bytes, own: atomic.Own, *, beside: Path | None = None) -> None:
    """The facility's CA under its hash name, and links to those of the host's that have one."""
    hashed.mkdir(exist_ok=True, mode=0o755)
    own(hashed)
    digest = f"{_subject_hash(x509.load_pem_x509_certificate(own_pem)):08x}"
    for path in sorted(beside.glob("????????.[0-9]")) if beside is not None and beside.is_dir() else ():
        link = hashed / path.name
        if not link.is_symlink() and path.name.split(".")[0] != digest:
            link.symlink_to(path)
    own_path = hashed / f"{digest}.0"
    if not own_path.exists():
        atomic.write(own_path, own_pem, mode=0o644, own=own)


def ensure_certificate(directory: Path, wanted: Certificate, lifetime_s: float, own: atomic.Own) -> bool:
    """Make a server certificate if it is missing, of other names, or has less than a third of its life left.

    Returns:
        Whether a new one was made: whoever uses it must load it.
    """
    chain_path, key_path = directory / f"{wanted.name}.pem", directory / f"{wanted.name}.key"
    if chain_path.exists() and key_path.exists() and not _must_renew(chain_path, wanted):
        return False
    authority = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    authority_key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
    assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    end = min(now + dt.timedelta(seconds=lifetime_s), authority.not_valid_after_utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted.name[:64])]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(_names(wanted)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    atomic.write(key_path, _private(key), mode=0o600, own=own)
    atomic.write(chain_path, certificate.public_bytes(pem) + authority.public_bytes(pem), mode=0o644, own=own)
    return True


def _names(wanted: Certificate) -> list[x509.GeneralName]:
    # XRootD clients look at DNS entries only, even for an address.
    dns = dict.fromkeys((*wanted.dns, *wanted.addresses))
    return [
        *(x509.DNSName(name) for name in dns),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in wanted.addresses),
    ]


def _must_renew(chain_path: Path, wanted: Certificate) -> bool:
    current = x509.load_pem_x509_certificate(chain_path.read_bytes())
    names = current.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    life = current.not_valid_after_utc - current.not_valid_before_utc
    left = current.not_valid_after_utc - dt.datetime.now(dt.UTC)
    return left < life * _RENEW_AT or set(names) != set(_names(wanted))


def expiry(chain_path: Path) -> dt.datetime:
    """When a certificate ends, in UTC."""
    return x509.load_pem_x509_certificate(chain_path.read_bytes()).not_valid_after_utc


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _subject_hash(certificate: x509.Certificate) -> int:
    """OpenSSL's name of a CA in a directory (``openssl x509 -hash``, X509_NAME_hash).

    The first four bytes, little-endian, of the SHA-1 of the canonical subject: the sets of the name one after
    another, each value as a UTF-8 string, lower case, with single spaces.
    """
    canonical = b""
    for rdn in certificate.subject.rdns:
        attributes = b""
        for attribute in rdn:
            # Letters outside ASCII keep their case: bytes.lower() leaves them alone, as OpenSSL does.
            value = " ".join(str(attribute.value).split()).encode().lower()
            oid = x509.Name([x509.NameAttribute(attribute.oid, "x")]).public_bytes()
            # Name > SET > SEQUENCE > OID: four two-byte headers, the fourth being the OID's own.
            oid_der = oid[6 : 8 + oid[7]]
            attributes += _der(0x30, oid_der + _der(0x0C, value))
        canonical += _der(0x31, attributes)
    digest = hashes.Hash(hashes.SHA1())  # noqa: S303 - OpenSSL's file naming, not a signature
    digest.update(canonical)
    return int.from_bytes(digest.finalize()[:4], "little")


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size, "big") + content


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
