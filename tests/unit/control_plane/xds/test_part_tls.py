"""How Envoy proves itself to the parts, and whom it expects of each cluster."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import UpstreamTlsContext
from typer.testing import CliRunner

from control_plane.render import app
from control_plane.settings import ControlPlaneSettings
from control_plane.topology import Address
from control_plane.xds import build_snapshot
from control_plane.xds.basics import names
from control_plane.xds.bootstrap import dynamic_bootstrap
from service_kit.identities.names import CONTROL_PLANE, INFERENCE, TRAINING, TRIGGER
from tests.unit.control_plane.topologies import TOPOLOGY

NAMING = "/etc/envoy/mesh"
EXPECTED = {
    **dict.fromkeys(names.REPLICAS, INFERENCE),
    names.TRAINING: TRAINING,
    names.TRIGGER: TRIGGER,
    names.CONTROL_PLANE: CONTROL_PLANE,
}


def context(cluster: Cluster) -> UpstreamTlsContext:
    socket = cluster.transport_socket
    assert socket is not None
    assert socket.typed_config is not None
    return UpstreamTlsContext.parse(socket.typed_config.value)


def check(cluster: Cluster, part: str) -> None:
    tls = context(cluster)
    common = tls.common_tls_context
    assert common is not None
    assert tls.sni == f"{part}.champion-mesh"
    combined = common.combined_validation_context
    assert combined is not None
    assert combined.default_validation_context is not None
    [san] = combined.default_validation_context.match_typed_subject_alt_names
    assert san.matcher is not None
    assert san.matcher.exact == f"spiffe://champion-mesh/{part}"
    assert common.tls_certificate_sds_secret_configs
    assert combined.validation_context_sds_secret_config is not None


def test_each_cluster_expects_its_part_and_no_other() -> None:
    clusters = build_snapshot(replace(TOPOLOGY, identity=NAMING)).clusters
    assert {cluster.name for cluster in clusters} == set(EXPECTED)
    for cluster in clusters:
        check(cluster, EXPECTED[cluster.name])


def test_without_an_identity_there_is_no_tls() -> None:
    for cluster in build_snapshot(TOPOLOGY).clusters:
        assert cluster.transport_socket is None, cluster.name


def test_envoy_takes_its_configuration_from_the_control_plane_alone() -> None:
    content = dynamic_bootstrap(
        Address("10.0.0.1", 9000), Address("127.0.0.1", 9901), "e", identity=NAMING
    )
    static = Bootstrap.parse(content).static_resources
    assert static is not None
    [cluster] = static.clusters
    check(cluster, CONTROL_PLANE)


def test_the_rendered_files_name_the_folder_that_envoy_watches(tmp_path: Path) -> None:
    out = tmp_path / "envoy.pb"
    options = ["--identity", "/run/mesh/identity", "--seen-in", NAMING]
    result = CliRunner().invoke(
        app, ["dynamic", "--control-plane", "control-plane:9000", "--out", str(out), *options]
    )
    assert result.exit_code == 0, result.output
    static = Bootstrap.parse(out.read_bytes()).static_resources
    assert static is not None
    common = context(static.clusters[0]).common_tls_context
    assert common is not None
    assert common.combined_validation_context is not None
    for secret in (
        common.tls_certificate_sds_secret_configs[0],
        common.combined_validation_context.validation_context_sds_secret_config,
    ):
        assert secret is not None
        assert secret.sds_config is not None
        assert secret.sds_config.path_config_source is not None
        path = Path(secret.sds_config.path_config_source.path)
        assert path.parent == Path(NAMING)
        [resource] = json.loads((tmp_path / path.name).read_text())["resources"]
        assert resource["name"] == secret.name
        [kind] = resource.keys() - {"@type", "name"}
        assert resource[kind]["watched_directory"] == {"path": "/run/mesh/identity"}


@pytest.mark.parametrize(
    "half", [{"identity_folder": Path("/run/mesh/identity")}, {"envoy_identity": NAMING}]
)
def test_one_half_of_the_settings_is_refused(half: dict[str, object]) -> None:
    settings = ControlPlaneSettings.model_validate({"port": 9000, **half})
    with pytest.raises(ValueError, match="CONTROL_ENVOY_IDENTITY are needed together"):
        settings.topology()
