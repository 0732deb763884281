"""Issues the identities of the parts, from a small authority that serves nobody else."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from cryptography import x509

from service_kit.certificates.authority import (
    AUTHORITY_FILE,
    AUTHORITY_KEY_FILE,
    Authority,
    life_left,
)
from service_kit.identities.files import HandOver, keep, write_identity
from service_kit.identities.identity import BadIdentity, Identity, Pems
from service_kit.identities.names import PARTS, server_name, spiffe_id

IDENTITY_DAYS = 30.0
AUTHORITY_FOLDER = "authority"
PREVIOUS_FILE = "previous-ca.pem"

Outcome = Literal["made", "kept", "replaced"]


class Issuer:
    """Keeps a folder with one identity a part, and the authority in a folder beside them."""

    def __init__(
        self, folder: Path, days: float = IDENTITY_DAYS, hand_over: HandOver = keep
    ) -> None:
        """An identity is good for `days` days; `hand_over` gives it to the user who reads it.

        Raises ValueError or OSError when the authority in the folder cannot be used.
        """
        self._folder = folder
        self._days = days
        self._authority_folder = folder / AUTHORITY_FOLDER
        self._previous = self._authority_folder / PREVIOUS_FILE
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._hand_over = hand_over
        self._authority = self._open_authority()

    def renew(self, parts: Iterable[str] = PARTS, now: bool = False) -> dict[str, Outcome]:
        """Issue what is missing, and what has lived half of its life; `now`: everything.

        Where a part does not trust the same authorities as the others yet, that is mended first,
        and its certificate follows in the next call: everybody then trusts it already.
        """
        return {part: self._renew(part, now) for part in parts}

    def begin_new_authority(self) -> None:
        """Make another authority. Two calls of `renew`, some seconds apart, put it to use."""
        self._previous.write_bytes(self._authority.certificate_pem)
        # The certificate goes first: without it the authority counts as missing.
        (self._authority_folder / AUTHORITY_FILE).unlink()
        (self._authority_folder / AUTHORITY_KEY_FILE).unlink()
        self._authority = self._open_authority()

    def forget_previous_authority(self) -> None:
        """Let nobody trust the authority before this one any more, from the next `renew` on.

        Raises ValueError while a part still has a certificate of it.
        """
        for part in PARTS:
            if self._issued_elsewhere(Identity(self._folder / part).current()):
                raise ValueError(f"{part} still has a certificate of the previous authority")
        self._previous.unlink(missing_ok=True)

    def _open_authority(self) -> Authority:
        authority = Authority.in_folder(self._authority_folder)
        for path in (self._folder, self._authority_folder, *self._authority_folder.iterdir()):
            self._hand_over(path)
        return authority

    def _renew(self, part: str, now: bool) -> Outcome:
        folder, trusted = self._folder / part, self._trusted()
        try:
            pems = Identity(folder).current()
        except BadIdentity:
            self._write(folder, self._issue(part))
            return "made"
        if pems.authorities != trusted:
            self._write(folder, Pems(pems.certificate, pems.key, trusted, part))
            return "replaced"
        if not (now or pems.part != part or _is_half_over(pems) or self._issued_elsewhere(pems)):
            return "kept"
        self._write(folder, self._issue(part))
        return "replaced"

    def _write(self, folder: Path, pems: Pems) -> None:
        write_identity(folder, pems, self._hand_over)

    def _issue(self, part: str) -> Pems:
        names = (spiffe_id(part), server_name(part))
        certificate, key = self._authority.issue(names, self._days, for_clients=True)
        return Pems(certificate, key, self._trusted(), part)

    def _trusted(self) -> bytes:
        previous = self._previous.read_bytes() if self._previous.exists() else b""
        return self._authority.certificate_pem + previous

    def _issued_elsewhere(self, pems: Pems) -> bool:
        return not self._authority.has_issued(_own(pems))


def _own(pems: Pems) -> x509.Certificate:
    return x509.load_pem_x509_certificates(pems.certificate)[0]


def _is_half_over(pems: Pems) -> bool:
    return life_left(_own(pems), time.time()) < 1 / 2
