"""A certificate authority of the mesh's own: a key and a certificate in two files."""

import datetime
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from service_kit.files.writing import write_new

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 90
# A certificate is also good for clients whose clocks are this much behind.
_EARLIER = datetime.timedelta(hours=1)
AUTHORITY_FILE, AUTHORITY_KEY_FILE = "ca.pem", "ca-key.pem"


@dataclass(frozen=True)
class Authority:
    """Issues certificates that whoever trusts its own certificate accepts."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def in_folder(cls, folder: Path) -> "Authority":
        """Read the authority of a folder; make one there when the folder has none.

        Its certificate, for clients, is AUTHORITY_FILE; the key beside it has mode 0600. Raises
        ValueError when a file is not what it should be.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_file, file = folder / AUTHORITY_KEY_FILE, folder / AUTHORITY_FILE
        if not file.exists():
            made = cls._new()
            key_file.unlink(missing_ok=True)
            write_new(key_file, key_pem(made.key))
            new = folder / f".{AUTHORITY_FILE}.new"
            new.write_bytes(made.certificate_pem)
            new.replace(file)
            return made
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key_file} holds no elliptic-curve key; remove it and {file.name}")
        return cls(x509.load_pem_x509_certificate(file.read_bytes()), key)

    @classmethod
    def _new(cls) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Champion Mesh local authority")])
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        certificate = (
            _builder(name, name, key, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate that clients have to trust."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def has_issued(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is one of this authority's."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def issue(
        self, names: Iterable[str], days: float = CERTIFICATE_DAYS, for_clients: bool = False
    ) -> tuple[bytes, bytes]:
        """Issue a certificate for a server of these DNS names, IP addresses and URIs.

        `for_clients`: its owner may also show it as a client. Returns the certificate and its new
        private key, both PEM. Raises ValueError for no names.
        """
        listed = list(dict.fromkeys(names))
        if not listed:
            raise ValueError("a certificate needs at least one name or address")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, listed[0][:64])])
        usages = [ExtendedKeyUsageOID.SERVER_AUTH]
        if for_clients:
            usages.append(ExtendedKeyUsageOID.CLIENT_AUTH)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = (
            _builder(subject, self.certificate.subject, key, days)
            .add_extension(x509.SubjectAlternativeName([_name(text) for text in listed]), False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), False)
            .add_extension(issuer, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM), key_pem(key)


def life_left(certificate: x509.Certificate, now: float) -> float:
    """Return the share of a certificate's life that is left at a time in seconds since 1970."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return (end.timestamp() - now) / (end - begin).total_seconds()


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM, without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _name(text: str) -> x509.GeneralName:
    if "://" in text:
        return x509.UniformResourceIdentifier(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
