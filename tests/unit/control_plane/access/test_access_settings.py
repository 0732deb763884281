"""Settings that say who may call."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from control_plane.access.rules import AccessRules, Scope
from control_plane.settings import ControlPlaneSettings

ENTRY = {
    "issuer": "https://idp.example",
    "audience": "mesh",
    "jwks_uri": "https://idp.example/keys",
    "models_claim": "models",
    "scopes": {"admins": ["view", "release"]},
}


def test_without_keys_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROL_PLANE_TOKEN_KEYS", "")
    assert ControlPlaneSettings(port=1).topology().access is None


def test_the_environment_names_keys_and_issuers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROL_PLANE_TOKEN_KEYS", "/keys.json")
    monkeypatch.setenv("CONTROL_PLANE_OIDC_ISSUERS", json.dumps([ENTRY]))
    settings = ControlPlaneSettings(port=1)
    assert settings.token_keys == Path("/keys.json")
    rules = settings.topology().access
    assert rules is not None
    assert not rules.open_predict
    (issuer,) = rules.issuers
    assert issuer.values_for(Scope.RELEASE) == ("admins",)
    assert issuer.values_for(Scope.TRAIN) == ()


def test_predictions_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROL_PLANE_TOKEN_KEYS", "/keys.json")
    monkeypatch.setenv("CONTROL_PLANE_OPEN_PREDICT", "true")
    assert ControlPlaneSettings(port=1).topology().access == AccessRules(open_predict=True)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ({}, "a JSON list"),
        ([{**ENTRY, "issuer": "champion-mesh"}], "the mesh itself"),
        ([{**ENTRY, "jwks_uri": "http://idp.example/keys"}], "needs https"),
        ([{**ENTRY, "jwks_uri": "file:///keys"}], "no URL"),
        ([{**ENTRY, "scopes": {"admins": ["root"]}}], "root"),
        ([{**ENTRY, "scopes": "admins"}], "scopes is needed"),
        ([{**ENTRY, "audience": ""}], "audience is empty"),
        ([{**ENTRY, "audiences": "mesh"}], "too many or too few"),
        ([{n: v for n, v in ENTRY.items() if n != "models_claim"}], "too many or too few"),
        ([ENTRY, ENTRY], "the same issuer"),
    ],
)
def test_issuers_that_cannot_be_meant_are_refused(
    entries: object, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTROL_PLANE_OIDC_ISSUERS", json.dumps(entries))
    with pytest.raises(ValidationError, match=why):
        ControlPlaneSettings(port=1)
