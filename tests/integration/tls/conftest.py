"""A toy mesh whose Envoy has a certificate."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio
from cryptography import x509

from service_kit.certificates.authority import AUTHORITY_FILE, Authority
from service_kit.certificates.certificate_files import write_pair
from tests.twins.toy_mesh import ToyMesh, running_mesh

NAMES = ("127.0.0.1", "localhost", "mesh.example")


@dataclass
class Secured:
    """A mesh whose Envoy has a certificate, the folder of its files, and the authority's."""

    mesh: ToyMesh
    folder: Path
    ca: Path
    address: str

    @property
    def url(self) -> str:
        return f"https://{self.address}"

    @property
    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def issue(self) -> int:
        """Give Envoy another certificate; return its serial number."""
        chain, key = Authority.in_folder(self.folder).issue(NAMES)
        write_pair(self.folder, chain, key)
        return x509.load_pem_x509_certificate(chain).serial_number

    async def serial(self) -> int:
        """Serial number of the certificate that Envoy shows to a new connection."""
        host, port = self.address.split(":")
        pem = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
        return x509.load_pem_x509_certificate(pem.encode()).serial_number


@pytest_asyncio.fixture
async def secured(tmp_path: Path) -> AsyncIterator[Secured]:
    folder = tmp_path / "certificates"
    authority = Authority.in_folder(folder)
    secret = write_pair(folder, *authority.issue(NAMES))
    async with running_mesh(tmp_path, certificates=(str(secret),)) as mesh:
        yield Secured(mesh, folder, folder / AUTHORITY_FILE, mesh.envoy.address)
        assert mesh.envoy.log.read_text() == "", "Envoy logs no warning"
