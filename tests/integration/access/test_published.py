"""Where a local mesh is published says whether predictions need a token: at a real Envoy."""

from pathlib import Path

import httpx
import pytest
from grpc import aio

from control_plane.access.rules import Scope
from control_plane.settings import ControlPlaneSettings
from mesh_cli.local.home import MeshHome, MeshSettings
from mesh_cli.local.local_secrets import LocalSecrets
from mesh_cli.local.parts import OPEN_PREDICT, Parts
from mesh_cli.local.ports import internal_names
from tests.integration.access.doors import call, ways
from tests.integration.access.guarded_mesh import guarded_mesh

VARIABLES = (OPEN_PREDICT, "CONTROL_ENVOY_HOST", "CONTROL_PLANE_TOKEN_KEYS")


@pytest.mark.parametrize(("host", "is_open"), [("127.0.0.1", True), ("0.0.0.0", False)])
async def test_predictions_need_a_token_where_others_reach_the_mesh(
    tmp_path: Path,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    host: str,
    is_open: bool,
) -> None:
    monkeypatch.delenv(OPEN_PREDICT, raising=False)
    monkeypatch.setenv("MESH_HOST", host)
    environment = control_planes_environment(tmp_path / "home")
    for name in VARIABLES:
        monkeypatch.setenv(name, environment[name])
    topology = ControlPlaneSettings(port=9000).topology()
    assert topology.host == host
    assert topology.access is not None
    async with guarded_mesh(tmp_path, postgres_url, topology.access, host=topology.host) as mesh:
        address = f"127.0.0.1:{mesh.envoy.address.rpartition(':')[2]}"
        async with (
            httpx.AsyncClient(base_url=f"http://{address}", timeout=20) as http,
            aio.insecure_channel(address) as channel,
        ):
            for way in ways():
                answer = await call(http, channel, way, None)
                with capsys.disabled():
                    print(f"MESH_HOST={host:10} {way.door:8} {way.path:50} no token: {answer}")
                if way.scope is Scope.PREDICT and is_open:
                    assert not answer.refused, way
                else:
                    assert answer.unauthenticated, way
                answer = await call(http, channel, way, mesh.key.token(way.scope))
                assert not answer.refused, way


def control_planes_environment(folder: Path) -> dict[str, str]:
    """What `mesh up` gives the control plane."""
    home = MeshHome(folder)
    home.make_folders()
    ports = {name: 1024 + number for number, name in enumerate(internal_names(2))}
    [part] = [
        part
        for part in Parts(home, MeshSettings(), LocalSecrets(home), ports).all()
        if part.name == "control-plane"
    ]
    return dict(part.program.environment)
