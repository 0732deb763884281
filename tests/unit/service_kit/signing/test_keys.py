"""Keys in files, and the rotation of them."""

from pathlib import Path

import pytest

from service_kit.signing.keys import (
    BadKeyFile,
    SignatureRefused,
    SigningKey,
    TrustedKeys,
    with_public_key,
)
from tests.twins.signing import make_key


def test_a_key_that_is_added_or_dropped_holds_without_a_restart(tmp_path: Path) -> None:
    private, public = make_key(tmp_path)
    later, later_public = make_key(tmp_path, "later")
    key, new = SigningKey.read(private), SigningKey.read(later)
    trusted = TrustedKeys(public)
    trusted.check(b"text", key.sign(b"text"), key.key_id)
    with pytest.raises(SignatureRefused, match="is not in"):
        trusted.check(b"text", new.sign(b"text"), new.key_id)
    public.write_text(with_public_key(later, public.read_text()))
    trusted.check(b"text", key.sign(b"text"), key.key_id)
    trusted.check(b"text", new.sign(b"text"), new.key_id)
    public.write_text(later_public.read_text())
    with pytest.raises(SignatureRefused, match="is not in"):
        trusted.check(b"text", key.sign(b"text"), key.key_id)


def test_a_known_key_is_not_written_twice(tmp_path: Path) -> None:
    private, public = make_key(tmp_path)
    assert with_public_key(private, public.read_text()) == public.read_text()


def test_another_text_is_refused(tmp_path: Path) -> None:
    private, public = make_key(tmp_path)
    key = SigningKey.read(private)
    with pytest.raises(SignatureRefused, match="does not fit"):
        TrustedKeys(public).check(b"other", key.sign(b"text"), key.key_id)


def test_keys_that_cannot_be_read_refuse_everything(tmp_path: Path) -> None:
    private, public = make_key(tmp_path)
    key = SigningKey.read(private)
    trusted = TrustedKeys(public)
    public.unlink()
    with pytest.raises(SignatureRefused, match="cannot be read"):
        trusted.check(b"text", key.sign(b"text"), key.key_id)
    public.write_text("no keys")
    with pytest.raises(SignatureRefused, match="holds 0 public keys"):
        trusted.check(b"text", key.sign(b"text"), key.key_id)


@pytest.mark.parametrize("content", ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_file_without_a_private_key_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.pem"
    path.write_text(content)
    with pytest.raises(BadKeyFile, match=r"key\.pem holds no private key"):
        SigningKey.read(path)
