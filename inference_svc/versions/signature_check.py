"""Whether a version is what the training service signed; a replica prepares nothing else."""

from collections.abc import Collection
from pathlib import Path

from inference_svc.versions.identity import VersionInfo
from service_kit.model_registry.artifacts import LARGE_FILES
from service_kit.signing.keys import SignatureRefused, TrustedKeys
from service_kit.signing.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    Manifest,
    digests,
    read_manifest,
)


class SignatureCheck:
    """Checks the signed manifest among a version's files. Without keys it asks for none."""

    def __init__(self, keys: TrustedKeys | None = None, ignored: Collection[str] = ()) -> None:
        """`ignored`: files in a version's folder that belong to the replica itself."""
        self._keys = keys
        self._ignored = frozenset(ignored)

    @property
    def asks(self) -> bool:
        """Whether signatures are asked for."""
        return self._keys is not None

    def check(self, info: VersionInfo, folder: Path) -> None:
        """Raise SignatureRefused unless the files are those that were signed as this version.

        Large files may be missing, since an engine reads only some of them. No file may be there
        that is not signed. Reads every file, so this takes about 0.1 s for 100 MB.
        """
        if self._keys is None:
            return
        what = f"version {info.version} of {info.name}"
        manifest = self._manifest(what, folder, self._keys)
        identity = {
            "model": (manifest.model, info.name),
            "source": (manifest.source, info.source),
            "run": (manifest.run_id, info.run_id),
        }
        for name, (signed, found) in identity.items():
            if signed != found:
                raise SignatureRefused(
                    f"{what} is refused: its files were signed for the {name} "
                    f"{signed[:200]!r}, not {found[:200]!r}"
                )
        found_files = digests(folder)
        for path, digest in found_files.items():
            if path not in self._ignored and manifest.files.get(path) != digest:
                why = "was altered after" if path in manifest.files else "was added after"
                raise SignatureRefused(f"{what} is refused: {path[:200]!r} {why} it was signed")
        for path in manifest.files:
            if path not in found_files and not path.endswith(LARGE_FILES):
                raise SignatureRefused(f"{what} is refused: {path[:200]!r}, which it had, is gone")

    def _manifest(self, what: str, folder: Path, keys: TrustedKeys) -> Manifest:
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
