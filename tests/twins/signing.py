"""Keys for tests, and versions that are signed with them."""

from pathlib import Path

from service_kit.signing.keys import SigningKey, new_private_pem, with_public_key
from service_kit.signing.manifest import MANIFEST_FILE, Manifest, digests


def make_key(folder: Path, name: str = "model") -> tuple[Path, Path]:
    """Make a key; return the file of its private half and that of its public half."""
    folder.mkdir(parents=True, exist_ok=True)
    private, public = folder / f"{name}.pem", folder / f"{name}-keys.pem"
    private.write_text(new_private_pem())
    public.write_text(with_public_key(private, ""))
    return private, public


def sign_version(folder: Path, private: Path, model: str, source: str, run_id: str) -> None:
    """Write the signed manifest of the files in a folder."""
    manifest = Manifest(model, source, run_id, digests(folder))
    (folder / MANIFEST_FILE).write_bytes(manifest.signed(SigningKey.read(private)))
