"""TLS for clients: where Envoy finds the certificate that it shows to them."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    ConfigSource,
    PathConfigSource,
    TransportSocket,
    WatchedDirectory,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CommonTlsContext,
    DownstreamTlsContext,
    SdsSecretConfig,
    TlsParameters,
    TlsParametersTlsProtocol,
)
from envoy_data_plane.google.protobuf import Any

from service_kit.certificates.certificate_files import CERTIFICATE_NAME


def tls(naming_files: Sequence[str]) -> TransportSocket:
    """Take the certificates from files that Envoy watches.

    Each is the path, on Envoy's machine, of a file as service_kit.certificates writes it. Envoy
    reads it again when something is renamed in its folder, so a new certificate needs no restart;
    connections that are open go on with the old one. Clients get the certificate that is good for
    the name that they ask for, else the first: who comes by an IP address asks for no name.
    """
    context = CommonTlsContext(
        tls_params=TlsParameters(tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2),
        tls_certificate_sds_secret_configs=[_certificate(name) for name in naming_files],
        alpn_protocols=["h2", "http/1.1"],
    )
    return TransportSocket(
        name="envoy.transport_sockets.tls",
        typed_config=Any.pack(DownstreamTlsContext(common_tls_context=context)),
    )


def _certificate(naming_file: str) -> SdsSecretConfig:
    folder = str(PurePosixPath(naming_file).parent)
    source = ConfigSource(
        path_config_source=PathConfigSource(
            path=naming_file, watched_directory=WatchedDirectory(path=folder)
        ),
        resource_api_version=ApiVersion.V3,
    )
    return SdsSecretConfig(name=CERTIFICATE_NAME, sds_config=source)
