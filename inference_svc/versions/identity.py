"""What makes two versions of a model the same one."""

import hashlib
from dataclasses import dataclass

_DIGEST_LETTERS = 16


@dataclass(frozen=True, order=True)
class VersionId:
    """A version of one model: its number, and where the registry says that its files lie.

    The number alone names no version: a model that was deleted and made anew starts at 1 again.
    """

    number: str
    source: str

    @property
    def folder(self) -> str:
        """Name of the version's folder in the cache; it has no dot."""
        digest = hashlib.sha256(self.source.encode(errors="surrogatepass")).hexdigest()
        return f"{self.number}-{digest[:_DIGEST_LETTERS]}"


@dataclass(frozen=True)
class VersionInfo:
    """What the registry says about a version."""

    name: str
    version: str
    run_id: str
    batch_id: str
    source: str

    @property
    def id(self) -> VersionId:
        """Which version of the model this is."""
        return VersionId(self.version, self.source)
