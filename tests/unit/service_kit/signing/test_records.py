"""Records that the control plane has signed, in tags of a model."""

import json
from base64 import b64decode, b64encode
from dataclasses import replace
from pathlib import Path

import pytest

from service_kit.model_registry.records import SERVING, RegisteredModel, VersionRef
from service_kit.signing.keys import SignatureRefused, SigningKey, TrustedKeys
from service_kit.signing.records import (
    TAG_SERVING,
    Record,
    served_version,
    serving_value,
    signed_tag,
)
from tests.twins.signing import make_key

MODEL = RegisteredModel("reviews", {SERVING: "1"}, created_at=5)
SECOND = VersionRef("2", "models:/m-2")


@pytest.fixture
def keys(tmp_path: Path) -> tuple[SigningKey, TrustedKeys]:
    private, public = make_key(tmp_path)
    return SigningKey.read(private), TrustedKeys(public)


def recorded(model: RegisteredModel, key: SigningKey) -> RegisteredModel:
    text = signed_tag(model, TAG_SERVING, Record(serving_value(SECOND), 7), key)
    return replace(model, tags={TAG_SERVING: text})


def test_the_record_counts_and_the_alias_does_not(keys: tuple[SigningKey, TrustedKeys]) -> None:
    key, trusted = keys
    assert served_version(recorded(MODEL, key), trusted) == SECOND
    assert served_version(recorded(MODEL, key), None) == VersionRef("1")
    assert served_version(MODEL, trusted) == VersionRef()


@pytest.mark.parametrize(
    "other",
    [
        replace(MODEL, name="films"),
        replace(MODEL, created_at=6),
    ],
    ids=["another model", "a model made anew"],
)
def test_a_record_of_another_model_is_refused(
    keys: tuple[SigningKey, TrustedKeys], other: RegisteredModel
) -> None:
    key, trusted = keys
    copied = replace(other, tags=recorded(MODEL, key).tags)
    with pytest.raises(SignatureRefused, match=r"was signed for mesh\.serving of reviews"):
        served_version(copied, trusted)


def test_another_tag_of_the_model_is_no_record(keys: tuple[SigningKey, TrustedKeys]) -> None:
    key, trusted = keys
    text = signed_tag(MODEL, "mesh.traffic", Record(serving_value(SECOND), 7), key)
    with pytest.raises(SignatureRefused, match=r"was signed for mesh\.traffic"):
        served_version(replace(MODEL, tags={TAG_SERVING: text}), trusted)


def test_an_altered_record_is_refused(keys: tuple[SigningKey, TrustedKeys]) -> None:
    key, trusted = keys
    envelope = json.loads(recorded(MODEL, key).tags[TAG_SERVING])
    payload = b64decode(envelope["payload"]).replace(b"m-2", b"m-3")
    envelope["payload"] = b64encode(payload).decode()
    with pytest.raises(SignatureRefused, match="does not fit"):
        served_version(replace(MODEL, tags={TAG_SERVING: json.dumps(envelope)}), trusted)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "7", '{"payload": 1}', '{"version": "9", "source": ""}']
)
def test_what_is_not_signed_is_refused(keys: tuple[SigningKey, TrustedKeys], text: str) -> None:
    with pytest.raises(SignatureRefused):
        served_version(replace(MODEL, tags={TAG_SERVING: text}), keys[1])
