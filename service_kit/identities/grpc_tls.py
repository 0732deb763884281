"""Mutual TLS for gRPC: the credentials of a server, and channels to other parts."""

from collections.abc import Sequence
from typing import Any

import grpc
from grpc import aio

from service_kit.identities.identity import Identity, Pems
from service_kit.identities.names import server_name

Options = Sequence[tuple[str, Any]]


def server_credentials(identity: Identity) -> grpc.ServerCredentials:
    """Return credentials that ask every client for a certificate of a trusted authority.

    Files that were replaced count from the next connection on.
    """
    shown = identity.current()

    def changed() -> Any:
        nonlocal shown
        pems = identity.current()
        if pems is shown:
            return None
        shown = pems
        return _configuration(pems)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(shown), changed, require_client_authentication=True
    )


def channel(address: str, part: str, pems: Pems | None, options: Options = ()) -> aio.Channel:
    """Return a channel to a part, in plain text where this part has no identity.

    With one, calls fail unless the certificate of the server names the part.
    """
    if pems is None:
        return aio.insecure_channel(address, options=list(options))
    return aio.secure_channel(address, _credentials(pems), options=[*options, named_server(part)])


def probe_channel(address: str, identity: Identity | None) -> grpc.Channel:
    """Return a channel, without asyncio, to another server of this same part."""
    if identity is None:
        return grpc.insecure_channel(address)
    pems = identity.current()
    return grpc.secure_channel(address, _credentials(pems), options=[named_server(pems.part)])


def named_server(part: str) -> tuple[str, str]:
    """Return the option of a channel by which its server has to name itself as a part."""
    return "grpc.ssl_target_name_override", server_name(part)


def _credentials(pems: Pems) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(pems.authorities, pems.key, pems.certificate)


def _configuration(pems: Pems) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(pems.key, pems.certificate)], root_certificates=pems.authorities
    )
