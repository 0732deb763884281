"""Whether a version is what the training service signed; a replica prepares nothing else."""

from collections.abc import Collection
from pathlib import Path

from inference_svc.versions.identity import VersionInfo
from service_kit.model_registry.records import ModelVersion
from service_kit.signing.keys import TrustedKeys
from service_kit.signing.signed_files import check_signed


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
        """Raise SignatureRefused unless the files are those that were signed as this version."""
        if self._keys is not None:
            version = ModelVersion(info.name, info.version, info.run_id, info.source)
            check_signed(version, folder, self._keys, self._ignored)
