"""Certificates of all parts are swapped while clients call; nobody notices."""

import asyncio
import datetime
from pathlib import Path

from cryptography import x509

from mesh.v1 import reload_pb2, reload_pb2_grpc
from service_kit.identities.issuing import Issuer
from service_kit.identities.names import CONTROL_PLANE, ENVOY, INFERENCE, PARTS, TRAINING
from tests.integration.identities.proven_mesh import MODEL, PATHS, ProvenMesh, proven_mesh
from tests.real_parts.steady_load import under_load
from tests.real_parts.waiting import until, until_async

LIFE_S = 45.0
CLIENTS = 4


def end_of(mesh: ProvenMesh, part: str) -> datetime.datetime:
    """When the certificate of a part ends."""
    pems = mesh.identity(part).current()
    return x509.load_pem_x509_certificates(pems.certificate)[0].not_valid_after_utc


async def test_certificates_are_swapped_under_load_and_the_mesh_outlives_the_old_ones(
    tmp_path: Path, mlflow_url: str, postgres_url: str
) -> None:
    async with proven_mesh(tmp_path, mlflow_url, postgres_url) as mesh:
        mesh.renew(LIFE_S / 86_400)
        first = end_of(mesh, ENVOY)
        async with under_load(mesh.envoy.address, MODEL, CLIENTS) as load:
            for _ in range(3):
                mesh.renew(LIFE_S / 86_400)
                await load.more()
            # The second step gives everybody a certificate of another authority.
            issuer = Issuer(mesh.identities, 1.0)
            issuer.begin_new_authority()
            before = await updates(mesh)
            assert set(issuer.renew().values()) == {"replaced"}
            await load.more()
            await all_updated(mesh, before)
            assert set(issuer.renew().values()) == {"replaced"}
            await load.more()
            await until(lambda: datetime.datetime.now(datetime.UTC) > first, LIFE_S + 10)
            await load.more()
            issuer.forget_previous_authority()
            assert set(issuer.renew().values()) == {"replaced"}
            await load.more()
        assert load.failures == []
        assert datetime.datetime.now(datetime.UTC) < end_of(mesh, ENVOY)
        # What connects anew now has no certificate but the new ones.
        for part in (INFERENCE, TRAINING, CONTROL_PLANE):
            await mesh.parts[part].restart()
            await mesh.serving(part)
        await answers(mesh)


async def updates(mesh: ProvenMesh) -> dict[str, int]:
    """How often each of Envoy's clusters has taken certificates."""
    found = await mesh.envoy.stats(r"client_ssl_socket_factory\.ssl_context_update_by_sds$")
    assert len(found) == 9, found
    return found


async def all_updated(mesh: ProvenMesh, before: dict[str, int]) -> None:
    """Wait until each of Envoy's clusters has taken certificates once more."""

    async def is_so() -> bool:
        return all(count > before[name] for name, count in (await updates(mesh)).items())

    await until_async(is_so, 20)


async def answers(mesh: ProvenMesh) -> None:
    """Wait until calls of every kind are answered by way of Envoy."""

    async def all_paths() -> bool:
        found = {path: (await mesh.http.get(path)).status_code for path in PATHS}
        body = {"texts": ["good"]}
        predicted = await mesh.http.post(f"/v1/models/{MODEL}:predict", json=body)
        return found == PATHS and predicted.is_success

    await until_async(all_paths, 60)
    async with mesh.as_part(ENVOY, to=CONTROL_PLANE) as to:
        stub = reload_pb2_grpc.ReloadServiceStub(to)

        async def is_eligible() -> bool:
            fleet = await stub.GetFleet(reload_pb2.GetFleetRequest(), timeout=10)
            return [replica.eligible for replica in fleet.replicas] == [True]

        # The control plane may be connecting anew at this moment.
        await until_async(is_eligible, 30)


async def test_a_swap_that_is_only_half_done_changes_nothing(
    tmp_path: Path, mlflow_url: str, postgres_url: str
) -> None:
    async with proven_mesh(tmp_path, mlflow_url, postgres_url) as mesh:
        async with under_load(mesh.envoy.address, MODEL, CLIENTS) as load:
            other = Issuer(tmp_path / "other", 1.0)
            other.renew()
            for part in PARTS:
                wrong = tmp_path / "other" / part / "key.pem"
                new = mesh.identities / part / ".key"
                new.write_bytes(wrong.read_bytes())
                new.replace(mesh.identities / part / "key.pem")
            await load.more()
            await asyncio.to_thread(mesh.renew, 1.0)
            await load.more()
        assert load.failures == []
        await answers(mesh)
