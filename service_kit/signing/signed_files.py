"""Whether the files of a version are what the training service signed."""

from collections.abc import Collection
from pathlib import Path

from service_kit.model_registry.artifacts import LARGE_FILES
from service_kit.model_registry.records import ModelVersion
from service_kit.signing.keys import SignatureRefused, TrustedKeys
from service_kit.signing.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    Manifest,
    digests,
    read_manifest,
)


def check_signed(
    version: ModelVersion, folder: Path, keys: TrustedKeys, ignored: Collection[str] = ()
) -> Manifest:
    """Return the manifest of a version. Raise SignatureRefused unless the files in its folder are
    those that were signed as this version.

    Large files may be missing, since an engine reads only some of them. No file may be there that
    is not signed, but for those of `ignored`. Reads every file, so this takes about 0.1 s for
    100 MB.
    """
    what = f"version {version.version} of {version.name}"
    manifest = _manifest(what, folder, keys)
    identity = {
        "model": (manifest.model, version.name),
        "source": (manifest.source, version.source),
        "run": (manifest.run_id, version.run_id),
    }
    for name, (signed, found) in identity.items():
        if signed != found:
            raise SignatureRefused(
                f"{what} is refused: its files were signed for the {name} "
                f"{signed[:200]!r}, not {found[:200]!r}"
            )
    found_files = digests(folder)
    for path, digest in found_files.items():
        if path not in ignored and manifest.files.get(path) != digest:
            why = "was altered after" if path in manifest.files else "was added after"
            raise SignatureRefused(f"{what} is refused: {path[:200]!r} {why} it was signed")
    for path in manifest.files:
        if path not in found_files and not path.endswith(LARGE_FILES):
            raise SignatureRefused(f"{what} is refused: {path[:200]!r}, which it had, is gone")
    return manifest


def _manifest(what: str, folder: Path, keys: TrustedKeys) -> Manifest:
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise SignatureRefused(
            f"{what} is refused: it is not signed ({MANIFEST_FILE} is missing), so the "
            "training service of this mesh has not made it"
        )
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise SignatureRefused(
            f"{what} is refused: {MANIFEST_FILE} has more than {MAX_MANIFEST_BYTES} bytes"
        )
    try:
        return read_manifest(path.read_bytes(), keys)
    except SignatureRefused as error:
        raise SignatureRefused(f"{what} is refused: {error}") from error
