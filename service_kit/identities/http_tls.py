"""Mutual TLS for the HTTP servers of asyncio: Envoy alone gets in."""

import asyncio
import logging
import ssl
from typing import Any

from service_kit.identities.identity import (
    CERTIFICATE_FILE,
    KEY_FILE,
    BadIdentity,
    Identity,
    Pems,
)
from service_kit.identities.names import ENVOY, part_of

log = logging.getLogger(__name__)


class ServerContext(ssl.SSLContext):
    """Gives every new connection the certificate that the identity's files hold by then.

    asyncio, uvloop and aiohttp call `wrap_bio` once for each connection.
    """

    def __new__(cls, identity: Identity) -> "ServerContext":
        """Make the context; all that a connection needs is in a context inside."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._pems: Pems | None = None
        self._inside: ssl.SSLContext | None = None
        self._current()

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """See ssl.SSLContext."""
        return self._current().wrap_bio(*args, **kwargs)

    def _current(self) -> ssl.SSLContext:
        pems = self._identity.current()
        if self._inside is None or pems is not self._pems:
            try:
                self._inside, self._pems = _context(self._identity, pems), pems
            except OSError as error:
                # The files were replaced just now; the next connection looks again.
                if self._inside is None:
                    raise BadIdentity(f"{self._identity.folder}: {error}") from error
                log.warning("a new certificate cannot be used", extra={"why": str(error)})
        return self._inside


def server_context(identity: Identity | None) -> ServerContext | None:
    """Return the context for a listener; None, which means plain text, without an identity."""
    return ServerContext(identity) if identity else None


def _context(identity: Identity, pems: Pems) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=pems.authorities.decode("ascii", "ignore"))
    context.load_cert_chain(identity.folder / CERTIFICATE_FILE, identity.folder / KEY_FILE)
    return context


def admits(transport: asyncio.BaseTransport) -> bool:
    """Whether a connection may send requests: it has no TLS, or its peer is Envoy."""
    if transport.get_extra_info("sslcontext") is None:
        return True
    names = (transport.get_extra_info("peercert") or {}).get("subjectAltName", ())
    part = part_of(value for kind, value in names if kind == "URI")
    if part != ENVOY:
        log.warning("a peer that is not Envoy is refused", extra={"peer": part[:100]})
    return part == ENVOY
