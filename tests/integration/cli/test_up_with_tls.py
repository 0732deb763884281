"""`mesh up --tls`: a whole mesh whose clients come with TLS, and the verbs that follow it."""

import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mesh.client import MeshClient
from mesh.errors import FailedPrecondition
from tests.whole_mesh.running_mesh import Mesh, new_mesh, running_mesh

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh of which MESH_TLS asks for TLS."""
    mesh = new_mesh(tmp_path_factory.mktemp("tls") / "mesh")
    mesh.environment.pop("MESH_CA", None)
    mesh.environment["MESH_TLS"] = "1"
    for started in running_mesh(mesh):
        # From now on nothing but the mesh itself says that it has TLS.
        del mesh.environment["MESH_TLS"]
        yield started


def test_every_part_is_healthy_and_the_urls_say_so(mesh: Mesh) -> None:
    status = mesh.json("status")
    assert status["healthy"]
    assert status["urls"]["mesh"] == f"https://{mesh.address}"
    assert "certificates" in {part["name"] for part in status["parts"]}
    assert status["ca"] in mesh.run("status").stdout


def test_the_verbs_reach_it(mesh: Mesh) -> None:
    assert len(mesh.json("fleet")["replicas"]) == 2
    assert mesh.json("scale", "1")["replicas"] == ["replica-1"]


def test_clients_with_the_printed_file_reach_it(mesh: Mesh) -> None:
    ca = mesh.json("status")["ca"]
    url = f"https://{mesh.address}"
    code = subprocess.run(
        ["curl", "-sS", "--cacert", ca, f"{url}/v1/models"], capture_output=True, text=True
    )
    assert code.returncode == 0, code.stderr
    assert json.loads(code.stdout) == {"models": [], "nextPageToken": ""}
    with MeshClient(url, ca=ca, token=mesh.token) as client:
        assert client.get_fleet().replicas
    context = ssl.create_default_context(cafile=ca)
    with httpx.Client(base_url=url, verify=context) as http:
        assert http.get("/v1/fleet").status_code == 401
        assert http.get("/v1/fleet", headers=mesh.headers).status_code == 200


def test_without_tls_nobody_gets_in(mesh: Mesh) -> None:
    with MeshClient(mesh.address, token=mesh.token) as client, pytest.raises(FailedPrecondition):
        client.get_fleet()


def test_the_demo_refuses_what_the_running_mesh_is_not(mesh: Mesh) -> None:
    result = mesh.run("demo", "--no-tls", check=False)
    assert result.returncode == 2
    assert "the mesh is up with TLS" in result.stderr


def test_only_the_owner_reads_the_keys(mesh: Mesh) -> None:
    keys = [*Path(mesh.home, "secrets", "tls").rglob("*key.pem")]
    assert len(keys) == 2
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}
