"""Clusters through which Envoy fetches the keys of foreign issuers of tokens."""

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
)
from envoy_data_plane.envoy.config.core.v3 import DataSource, TransportSocket
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any

from control_plane.access.rules import Issuer
from control_plane.topology import Address
from control_plane.xds.basics import names
from control_plane.xds.basics.messages import seconds
from control_plane.xds.clusters.endpoints import Endpoints

CONNECT_TIMEOUT_S = 5.0


def issuer_cluster(number: int, issuer: Issuer) -> Cluster:
    """Return the cluster of an issuer's machine."""
    name = names.issuer_cluster(number)
    address = Address(issuer.host, issuer.port)
    return Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC if address.is_ip else ClusterDiscoveryType.STRICT_DNS,
        # By default a name's IPv4 addresses are left aside when it has others, which this machine
        # may be unable to reach. With all of them Envoy takes the one that answers first.
        dns_lookup_family=ClusterDnsLookupFamily.ALL,
        connect_timeout=seconds(CONNECT_TIMEOUT_S),
        load_assignment=Endpoints(name, (address,)).message(),
        transport_socket=_tls(issuer) if issuer.over_tls else None,
    )


def _tls(issuer: Issuer) -> TransportSocket:
    kind = SubjectAltNameMatcherSanType
    san = SubjectAltNameMatcher(
        san_type=kind.IP_ADDRESS if Address(issuer.host, issuer.port).is_ip else kind.DNS,
        matcher=StringMatcher(exact=issuer.host),
    )
    trusted = CertificateValidationContext(
        trusted_ca=DataSource(filename=issuer.ca_file), match_typed_subject_alt_names=[san]
    )
    context = UpstreamTlsContext(
        sni=issuer.host, common_tls_context=CommonTlsContext(validation_context=trusted)
    )
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=Any.pack(context))
