"""X.509 as grids have it: an authority, a server, and the proxy of a service (RFC 3820). All RSA: XRootD's needs it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from boathouse.testing.pki import Authority

_PROXY_CERT_INFO = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")
# SEQUENCE { SEQUENCE { id-ppl-inheritAll } }: all the rights of who signed it.
_INHERIT_ALL = bytes.fromhex("300c300a06082b06010505071501")
_HOUR = dt.timedelta(hours=1)


class GridAuthority:
    """A CA whose certificates XRootD's ``gsi`` takes.

    Args:
        directory: where it lies; ``hashed`` in it holds its certificate by its hash name.
    """

    def __init__(self, directory: Path) -> None:
        self._key, self._name = _key(), _named("Grid CA")
        self._certificate = self._sign(self._name, self._key, authority=True)
        (directory / "ca.pem").write_bytes(_pem(self._certificate))
        (directory / "ca.key").write_bytes(_private(self._key))
        Authority(directory)
        self.directory = directory / "hashed"

    def server(self, address: str) -> tuple[str, str]:
        """Certificate and key of a server, PEM."""
        key = _key()
        # As XRootD writes the address of a server without a host name.
        return _pem(self._sign(_named(f"[::ffff:{address}]"), key)).decode(), _private(key).decode()

    def proxy(self, service: str) -> str:
        """A proxy of a service: its certificate and key, and the certificate that signed it, PEM."""
        key, proxy_key = _key(), _key()
        subject = _named(service)
        signer = self._sign(subject, key)
        serial = x509.random_serial_number() >> 96
        name = x509.Name([*subject, x509.NameAttribute(NameOID.COMMON_NAME, str(serial))])
        proxy = (
            _builder(name, subject, proxy_key)
            .serial_number(serial)
            .add_extension(x509.UnrecognizedExtension(_PROXY_CERT_INFO, _INHERIT_ALL), critical=True)
            .add_extension(_usage(), critical=True)
            .sign(key, hashes.SHA256())
        )
        return (_pem(proxy) + _private(proxy_key) + _pem(signer)).decode()

    def _sign(self, subject: x509.Name, key: rsa.RSAPrivateKey, *, authority: bool = False) -> x509.Certificate:
        return (
            _builder(subject, self._name, key)
            .serial_number(x509.random_serial_number())
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(_usage(authority=authority), critical=True)
            .sign(self._key, hashes.SHA256())
        )


def _builder(subject: x509.Name, issuer: x509.Name, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .not_valid_before(now - _HOUR)
        .not_valid_after(now + 12 * _HOUR)
    )


def _usage(*, authority: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _named(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Grid"), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
