"""The process that renews certificates beside a running Envoy, under load, and a given one."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
from cryptography import x509

from mesh.client import AsyncMeshClient
from mesh_cli.certificates.door import DoorCertificates, door_certificates
from service_kit.certificates.authority import AUTHORITY_FILE, Authority
from tests.integration.tls.test_tools import run
from tests.real_parts.waiting import until_async
from tests.twins.toy_mesh import ToyMesh, running_mesh

NAMES = ("127.0.0.1", "localhost")
GIVEN_NAME = "mesh.example"
PREDICT = "/v1/models/reviews:predict"
CLIENTS = 4
DAYS = 0.01


class Elsewhere:
    """Another authority, which renews a certificate in two files by its own rules."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority.in_folder(folder / "elsewhere")
        self.ca = folder / "elsewhere" / AUTHORITY_FILE
        self.certificate, self.key = folder / "fullchain.pem", folder / "privkey.pem"

    def issue(self) -> int:
        """Write both files, one after the other; return the certificate's serial number."""
        chain, key = self.authority.issue([GIVEN_NAME])
        self.key.write_bytes(key)
        self.certificate.write_bytes(chain)
        return x509.load_pem_x509_certificate(chain).serial_number


@contextmanager
def renewing(found: DoorCertificates) -> Iterator[subprocess.Popen[bytes]]:
    """The process, which looks ten times a second."""
    command = [sys.executable, "-m", "service_kit.door_certificates", "--look-s", "0.1"]
    command += ["--days", str(DAYS), str(found.own.authority), str(found.own.folder)]
    assert found.given is not None
    command += ["--given-certificate", str(found.given.certificate)]
    command += ["--given-key", str(found.given.key), "--given-folder", str(found.given.folder)]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


@asynccontextmanager
async def mesh_with(folder: Path, found: DoorCertificates) -> AsyncIterator[ToyMesh]:
    found.make()
    files = tuple(found.naming_files.split(","))
    async with running_mesh(folder, certificates=files, hosts=(GIVEN_NAME,)) as mesh:
        yield mesh


async def serial(address: str, name: str, ca: Path) -> int:
    """Serial number of the certificate that a client gets who asks for a name."""
    host, port = address.split(":")
    context = ssl.create_default_context(cafile=str(ca))
    _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name)
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown).serial_number


async def test_each_client_gets_the_certificate_of_the_name_that_it_asks_for(
    tmp_path: Path,
) -> None:
    elsewhere = Elsewhere(tmp_path)
    wanted = elsewhere.issue()
    files = elsewhere.certificate, elsewhere.key
    found = door_certificates(tmp_path / "tls", NAMES, *files)
    async with mesh_with(tmp_path, found) as mesh:
        address = mesh.envoy.address
        assert await serial(address, GIVEN_NAME, elsewhere.ca) == wanted
        for name in NAMES:
            assert await serial(address, name, found.ca) != wanted
        port = address.rpartition(":")[2]
        code, output, errors = await run(
            *(
                "curl",
                "-sS",
                "--cacert",
                elsewhere.ca,
                "--resolve",
                f"{GIVEN_NAME}:{port}:127.0.0.1",
            ),
            *("-d", '{"texts":["good"]}', f"https://{GIVEN_NAME}:{port}{PREDICT}"),
        )
        assert code == 0, errors
        assert "predictions" in output
        assert mesh.envoy.log.read_text() == ""


async def test_both_are_renewed_under_load_without_a_failed_request(tmp_path: Path) -> None:
    elsewhere = Elsewhere(tmp_path)
    elsewhere.issue()
    found = door_certificates(tmp_path / "tls", NAMES, elsewhere.certificate, elsewhere.key)
    # Of a life of minutes less than a third is left at once, so that each look renews it.
    found = replace(found, own=replace(found.own, days=DAYS))
    answered, done = {"kept": 0, "new": 0}, asyncio.Event()
    async with mesh_with(tmp_path, found) as mesh:
        address = mesh.envoy.address

        async def over_one_connection() -> None:
            async with AsyncMeshClient(f"https://{address}", ca=str(found.ca)) as client:
                while not done.is_set():
                    await client.predict("reviews", "good", timeout_s=30)
                    answered["kept"] += 1

        async def over_new_connections() -> None:
            context = ssl.create_default_context(cafile=str(found.ca))
            while not done.is_set():
                async with httpx.AsyncClient(verify=context, timeout=30) as http:
                    answer = await http.post(
                        f"https://{address}{PREDICT}", json={"texts": ["good"]}
                    )
                    assert answer.status_code == 200, answer.text
                answered["new"] += 1

        with renewing(found) as process:
            async with asyncio.TaskGroup() as clients:
                for _ in range(CLIENTS):
                    clients.create_task(over_one_connection())
                    clients.create_task(over_new_connections())
                for _ in range(3):
                    own = await serial(address, "localhost", found.ca)
                    given = elsewhere.issue()

                    async def both_are_new(old: int = own, new: int = given) -> bool:
                        shown = await serial(address, "localhost", found.ca)
                        return (
                            shown != old and await serial(address, GIVEN_NAME, elsewhere.ca) == new
                        )

                    await until_async(both_are_new, 10)
                    before = dict(answered)

                    async def all_go_on(begin: dict[str, int] = before) -> bool:
                        return all(answered[kind] >= begin[kind] + 10 for kind in answered)

                    await until_async(all_go_on)
                done.set()
            assert process.poll() is None
