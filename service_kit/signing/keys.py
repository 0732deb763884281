"""Ed25519 keys in PEM files: a private one signs, and any of several public ones is trusted."""

import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from service_kit.errors import FailedPrecondition
from service_kit.files.watching import Stamp, stamp

_END = b"-----END PUBLIC KEY-----"
# More public keys than a rotation ever needs at a time; a longer file is refused.
MOST_KEYS = 32


class SignatureRefused(FailedPrecondition):
    """Something is not signed, or not by a key that is trusted, or not as it is now."""


class BadKeyFile(OSError):
    """A file of keys cannot be used; the message names the file and says what it has to hold."""


class SigningKey:
    """A private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key()
        self.key_id = key_id(self.public_key)

    @classmethod
    def read(cls, path: Path) -> "SigningKey":
        """Read a PEM file. Raises OSError, BadKeyFile."""
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise BadKeyFile(f"{path} holds no private key in PEM: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise BadKeyFile(f"{path} holds another key than an Ed25519 private key")
        return cls(key)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""
        return self._key.sign(message)

    def public_pem(self) -> str:
        """Return the public key in PEM."""
        return _public_pem(self.public_key)


class TrustedKeys:
    """The public keys in a PEM file, which may hold several while one is rotated out.

    The file is read again when it changes, so that a new key holds without a restart.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp | None = None
        self._keys: dict[str, Ed25519PublicKey] = {}

    @classmethod
    def beside(cls, key: SigningKey, path: Path | None) -> "TrustedKeys":
        """Trust the public half of a private key, and the keys in a file if there is one."""
        return _WithOwn(key, path)

    def check(self, message: bytes, signature: bytes, key: str) -> None:
        """Raise SignatureRefused unless the trusted key with this id signed the message.

        It refuses as well while the file of the keys cannot be used.
        """
        try:
            trusted = self.keys().get(key)
        except OSError as error:
            raise SignatureRefused(f"the trusted keys cannot be read: {error}") from error
        if trusted is None:
            raise SignatureRefused(f"its key {key[:16] or '(none)'!r} is not in {self._path}")
        try:
            trusted.verify(signature, message)
        except InvalidSignature:
            raise SignatureRefused("its signature does not fit what was signed") from None

    def keys(self) -> dict[str, Ed25519PublicKey]:
        """Return the keys by their ids. Raises OSError, BadKeyFile."""
        now = stamp(self._path)
        if now != self._stamp:
            self._keys, self._stamp = _read_public(self._path), now
        return self._keys


class _WithOwn(TrustedKeys):
    """The keys in a file and one more."""

    def __init__(self, key: SigningKey, path: Path | None) -> None:
        super().__init__(path or Path("the public half of the own key"))
        self._own = {key.key_id: key.public_key}
        self._has_file = path is not None

    def keys(self) -> dict[str, Ed25519PublicKey]:
        return super().keys() | self._own if self._has_file else self._own


def new_private_pem() -> str:
    """Make a private key; return it in PEM."""
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


def with_public_key(private: Path, trusted: str) -> str:
    """Return a PEM text of trusted keys with the public half of a private key, if it lacked it.

    Raises OSError, BadKeyFile.
    """
    own = SigningKey.read(private).public_pem()
    return trusted if own in trusted else trusted + own


def key_id(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a public key in DER, hexadecimal."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def _public_pem(key: Ed25519PublicKey) -> str:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def _read_public(path: Path) -> dict[str, Ed25519PublicKey]:
    blocks = [block + _END for block in path.read_bytes().split(_END)[:-1]]
    if not 0 < len(blocks) <= MOST_KEYS:
        raise BadKeyFile(f"{path} holds {len(blocks)} public keys; 1 to {MOST_KEYS} are allowed")
    keys = {}
    for block in blocks:
        try:
            key = serialization.load_pem_public_key(block.strip())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise BadKeyFile(f"{path} holds something else than public keys: {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise BadKeyFile(f"{path} holds another key than Ed25519 public keys")
        keys[key_id(key)] = key
    return keys
