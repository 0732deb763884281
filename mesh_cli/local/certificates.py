"""The certificates of a local mesh, and what is remembered of its settings about TLS."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesh_cli.certificates.door import DoorCertificates, door_certificates, names_of
from mesh_cli.local.home import MeshHome, MeshSettings
from mesh_cli.local.supervisord_config import Program

_PATHS = ("certificate", "key")


def certificates_of(home: MeshHome, settings: MeshSettings) -> DoorCertificates:
    """The certificates of the mesh in `home`. Raises CliError."""
    names = names_of(settings.host, settings.tls_names)
    return door_certificates(home.tls, names, settings.certificate, settings.key)


def renewal(home: MeshHome, settings: MeshSettings) -> Program:
    """The process that renews them while the mesh runs."""
    found = certificates_of(home, settings)
    command = [sys.executable, "-m", "service_kit.door_certificates"]
    command += [str(found.own.authority), str(found.own.folder)]
    if (given := found.given) is not None:
        command += ["--given-certificate", str(given.certificate), "--given-key", str(given.key)]
        command += ["--given-folder", str(given.folder)]
    return Program("certificates", command)


def settings_of_tls(before: Mapping[str, Any], settings: MeshSettings) -> dict[str, Any]:
    """The settings about TLS of an earlier start that no variable replaces.

    before: the settings of that start, as the record has them.
    """
    names = {"tls", "tls_names", *_PATHS} - settings.model_fields_set
    kept = {name: before[name] for name in names if name in before}
    return kept | {name: Path(kept[name]) for name in _PATHS if kept.get(name)}
