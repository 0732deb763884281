"""Mutual TLS from Envoy to the parts: the certificate that it shows, and whom it expects."""

import json
from pathlib import PurePosixPath

from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    ConfigSource,
    PathConfigSource,
    TransportSocket,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    CommonTlsContextCombinedCertificateValidationContext,
    SdsSecretConfig,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any

from service_kit.identities.identity import AUTHORITIES_FILE, CERTIFICATE_FILE, KEY_FILE
from service_kit.identities.names import server_name, spiffe_id

# Envoy goes on with a connection for this time at most, seconds, and then opens another one, with
# the certificate that it has by then; calls in flight end on the old connection.
CONNECTION_S = 3600.0
# Names of the secrets, and of the files that tell Envoy where they are.
_CERTIFICATE, _AUTHORITIES = "identity-certificate", "identity-authorities"
_MESSAGE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


def tls_to(part: str, naming_folder: str, protocol: str) -> TransportSocket:
    """Return the transport of a cluster whose hosts have to be a part, by their SPIFFE id.

    `naming_folder` is where Envoy finds what `naming_files` has written; `protocol` is h2 or
    http/1.1.
    """
    san = SubjectAltNameMatcher(
        san_type=SubjectAltNameMatcherSanType.URI, matcher=StringMatcher(exact=spiffe_id(part))
    )
    trusted = CommonTlsContextCombinedCertificateValidationContext(
        default_validation_context=CertificateValidationContext(
            match_typed_subject_alt_names=[san]
        ),
        validation_context_sds_secret_config=_secret(_AUTHORITIES, naming_folder),
    )
    newest = TlsParametersTlsProtocol.TLSv1_3
    context = CommonTlsContext(
        tls_params=TlsParameters(
            tls_minimum_protocol_version=newest, tls_maximum_protocol_version=newest
        ),
        tls_certificate_sds_secret_configs=[_secret(_CERTIFICATE, naming_folder)],
        combined_validation_context=trusted,
        alpn_protocols=[protocol],
    )
    return TransportSocket(
        name="envoy.transport_sockets.tls",
        typed_config=Any.pack(
            UpstreamTlsContext(sni=server_name(part), common_tls_context=context)
        ),
    )


def naming_files(identity_folder: str) -> dict[str, bytes]:
    """Return the files, by name, that tell Envoy where its certificate and its authorities are.

    `identity_folder` is the folder of Envoy's identity on Envoy's machine. Envoy watches it: when
    something in it is renamed, Envoy reads its files again, without a restart.
    """
    folder = PurePosixPath(identity_folder)
    watched = {"watched_directory": {"path": str(folder)}}
    certificate = {
        "certificate_chain": {"filename": str(folder / CERTIFICATE_FILE)},
        "private_key": {"filename": str(folder / KEY_FILE)},
        **watched,
    }
    authorities = {"trusted_ca": {"filename": str(folder / AUTHORITIES_FILE)}, **watched}
    return {
        f"{_CERTIFICATE}.json": _file(_CERTIFICATE, {"tls_certificate": certificate}),
        f"{_AUTHORITIES}.json": _file(_AUTHORITIES, {"validation_context": authorities}),
    }


def _file(name: str, content: dict[str, object]) -> bytes:
    secret = {"@type": _MESSAGE, "name": name, **content}
    return json.dumps({"resources": [secret]}, indent=1).encode()


def _secret(name: str, naming_folder: str) -> SdsSecretConfig:
    path = str(PurePosixPath(naming_folder) / f"{name}.json")
    source = ConfigSource(
        path_config_source=PathConfigSource(path=path), resource_api_version=ApiVersion.V3
    )
    return SdsSecretConfig(name=name, sds_config=source)
