"""Signed tags of registered models: what the control plane recorded, and nobody else.

The alias `Serving` and plain tags can be set by whoever may write to MLflow. A signed tag holds the
model's name and the time of its creation, the tag's key and value, and a number that grows.
"""

import json
from dataclasses import dataclass

from service_kit.model_registry.records import SERVING, RegisteredModel, VersionRef
from service_kit.signing.envelope import opened, sealed
from service_kit.signing.keys import SignatureRefused, SigningKey, TrustedKeys

TAG_SERVING = "mesh.serving"
"""The commit record: which version the fleet serves. The alias `Serving` follows it."""

_PAYLOAD_TYPE = "application/vnd.champion-mesh.record+json"


@dataclass(frozen=True)
class Record:
    """The value of a tag, and its number: of two records of one tag the later one has more."""

    value: str
    sequence: int


def signed_tag(model: RegisteredModel, key: str, record: Record, signing_key: SigningKey) -> str:
    """Return what is written as the value of the tag."""
    content = {
        "model": model.name,
        "created_at": model.created_at,
        "tag": key,
        "value": record.value,
        "sequence": record.sequence,
    }
    return json.dumps(sealed(_PAYLOAD_TYPE, json.dumps(content).encode(), signing_key))


def record_of(model: RegisteredModel, key: str, keys: TrustedKeys) -> Record | None:
    """Return the record in a tag of a model; None: it has no such tag. Raises SignatureRefused."""
    text = model.tags.get(key)
    if text is None:
        return None
    try:
        content = opened(_PAYLOAD_TYPE, json.loads(text), keys)
        about = content["model"], content["created_at"], content["tag"]
        record = Record(str(content["value"]), int(content["sequence"]))
    except (LookupError, TypeError, ValueError) as error:
        raise SignatureRefused(f"the tag {key} is not signed: {error!r}") from error
    if about != (model.name, model.created_at, key):
        raise SignatureRefused(f"the tag {key} was signed for {about[2]} of {about[0]}")
    return record


def serving_value(ref: VersionRef) -> str:
    """Return the value of TAG_SERVING."""
    return json.dumps({"version": ref.version, "source": ref.source})


def serving_ref(record: Record | None) -> VersionRef:
    """Return the version in a record of TAG_SERVING; no record: none."""
    if record is None:
        return VersionRef()
    values = json.loads(record.value)
    return VersionRef(str(values["version"]), str(values["source"]))


def served_version(model: RegisteredModel, keys: TrustedKeys | None) -> VersionRef:
    """Return the version that the fleet serves, as it was recorded; none: an empty one.

    Without keys signatures are not asked for, and the alias counts. Raises SignatureRefused.
    """
    if keys is None:
        return model.aliased(SERVING)
    return serving_ref(record_of(model, TAG_SERVING, keys))
