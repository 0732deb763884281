"""DSSE envelopes: bytes of a named type, with a signature over both.

See https://github.com/secure-systems-lab/dsse.
"""

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from service_kit.signing.keys import SignatureRefused, SigningKey, TrustedKeys


def sealed(payload_type: str, payload: bytes, key: SigningKey) -> dict[str, Any]:
    """Return an envelope as plain values."""
    signature = key.sign(_encoded(payload_type, payload))
    return {
        "payload": b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": key.key_id, "sig": b64encode(signature).decode()}],
    }


def opened(payload_type: str, envelope: Any, keys: TrustedKeys) -> Mapping[str, Any]:
    """Return the JSON object in an envelope that a trusted key has signed as of this type.

    Raises SignatureRefused.
    """
    try:
        payload = b64decode(envelope["payload"], validate=True)
        given = str(envelope["payloadType"])
        signed = envelope["signatures"][0]
        signature, key = b64decode(signed["sig"], validate=True), str(signed["keyid"])
    except (LookupError, TypeError, ValueError, binascii.Error) as error:
        raise SignatureRefused("it is no DSSE envelope") from error
    if given != payload_type:
        raise SignatureRefused(f"it is of the type {given[:60]!r}, not {payload_type!r}")
    keys.check(_encoded(payload_type, payload), signature, key)
    content = json.loads(payload)
    if not isinstance(content, dict):
        raise SignatureRefused("it holds no JSON object")
    return content


def _encoded(payload_type: str, payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
