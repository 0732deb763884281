"""A certificate by the mesh's own small authority."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from service_kit.certificates.authority import (
    AUTHORITY_FILE,
    CERTIFICATE_DAYS,
    Authority,
    life_left,
)
from service_kit.certificates.certificate_files import NAMING_FILE, write_pair
from service_kit.door_certificates.current_pair import Pair, changing, current_pair

# A new certificate is made when less than this share of the old one's life is left, which leaves a
# month in which a failure of that can be noticed.
RENEWED_FROM = 1 / 3


@dataclass(frozen=True)
class OwnCertificate:
    """The folder of the certificate for Envoy, and the folder of the authority that issues it.

    Only whoever issues certificates needs the authority's folder; clients need its ca.pem.
    """

    authority: Path
    folder: Path
    names: tuple[str, ...] = ()
    """DNS names and IP addresses of the mesh; empty: those of the certificate that is there."""
    seen_at: Path | None = None
    """Where Envoy finds the folder; None: where it is."""
    days: float = CERTIFICATE_DAYS
    clock: Callable[[], float] = time.time

    @property
    def ca(self) -> Path:
        """The file that clients trust."""
        return self.authority / AUTHORITY_FILE

    @property
    def naming_file(self) -> Path:
        """The file that Envoy reads, at the path where Envoy finds it."""
        return (self.seen_at or self.folder.absolute()) / NAMING_FILE

    def make(self) -> bool:
        """Issue a certificate when there is none, when it lacks a name or when its end is near.

        Returns whether one was issued. Raises ValueError or OSError when that is not possible.
        """
        with changing(self.folder):
            authority = Authority.in_folder(self.authority)
            pair = current_pair(self.folder)
            names = self.names or _names(pair)
            if pair is not None and self._is_good(pair, authority, names):
                return False
            write_pair(self.folder, *authority.issue(names, self.days), self.seen_at)
        return True

    def _is_good(self, pair: Pair, authority: Authority, names: Iterable[str]) -> bool:
        try:
            certificate, has_names = pair.certificate, set(names) <= pair.names
        except ValueError:
            return False
        is_young = life_left(certificate, self.clock()) > RENEWED_FROM
        return authority.has_issued(certificate) and has_names and is_young


def _names(pair: Pair | None) -> tuple[str, ...]:
    try:
        return tuple(sorted(pair.names)) if pair is not None else ()
    except ValueError:
        return ()
