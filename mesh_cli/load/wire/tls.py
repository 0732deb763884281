"""TLS of the generator's connections."""

import ssl

from mesh_cli.errors import BadInput
from mesh_cli.load.plan.spec import LoadSpec


def tls(spec: LoadSpec, protocol: str) -> ssl.SSLContext | None:
    """The context of connections that speak `protocol` (ALPN); None for an address without TLS.

    Raises BadInput when the file of authorities cannot be used.
    """
    if not spec.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=spec.ca or None)
    except OSError as error:  # an SSLError is one
        why = error.strerror or error
        raise BadInput(f"{spec.ca} holds no certificates to trust as PEM: {why}") from None
    context.set_alpn_protocols([protocol])
    return context
