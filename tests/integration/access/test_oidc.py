"""Tokens of a foreign issuer, whose keys Envoy fetches by itself, up to the entry in the audit."""

import base64
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from jwt.algorithms import RSAAlgorithm

from control_plane.access.rules import AccessRules, issuers_of
from control_plane.xds.access import token_check
from tests.integration.access.guarded_mesh import GuardedMesh, guarded_mesh
from tests.integration.access.real_services import RealServices, real_services
from tests.real_parts.oidc_issuer import AUDIENCE, ES256, OidcIssuer, running_issuer
from tests.real_parts.postgres import new_database
from tests.real_parts.tokens import part, unsigned, with_claims
from tests.real_parts.waiting import until, until_async

pytestmark = pytest.mark.asyncio(loop_scope="module")
# Envoy fetches the keys again 5 s before this time is over.
KEYS_KEPT_S = 7.0


@dataclass
class Rig:
    """The parts."""

    mesh: GuardedMesh
    issuer: OidcIssuer
    services: RealServices

    async def get(self, path: str, token: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"}
        return await self.mesh.http.get(path, headers=headers)

    async def add(self, model: str, token: str, **headers: str) -> httpx.Response:
        example = {"text": f"a text {id(headers)}", "label": "good"}
        return await self.mesh.http.post(
            f"/v1/models/{model}/examples",
            json={"examples": [example]},
            headers=headers | {"authorization": f"Bearer {token}"},
        )

    async def passes(self, token: str) -> bool:
        return (await self.get("/v1/batches", token)).status_code == 200


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory, postgres_server: str) -> AsyncIterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("oidc")
    patch = pytest.MonkeyPatch()
    patch.setattr(token_check, "KEYS_KEPT_S", KEYS_KEPT_S)
    with new_database(postgres_server) as url:
        async with (
            running_issuer(folder / "issuer") as issuer,
            real_services(folder, url) as services,
        ):
            entry = {
                **{"issuer": issuer.url, "audience": AUDIENCE},
                **{"jwks_uri": await issuer.jwks_uri(), "ca_file": str(issuer.ca_file)},
                **{"scope_claim": "groups", "models_claim": "mesh_models"},
                "scopes": {"mesh-writers": ["data", "view"], "mesh-admins": ["release"]},
            }
            rules = AccessRules(issuers=issuers_of(json.dumps([entry])))
            async with guarded_mesh(
                folder, url, rules, services.training, services.trigger
            ) as mesh:
                rig = Rig(mesh, issuer, services)
                token = await issuer.token()
                await until_async(lambda: rig.passes(token), timeout_s=15)
                yield rig
    patch.undo()


async def test_claims_become_scopes_models_and_a_subject_with_its_issuer(rig: Rig) -> None:
    token = await rig.issuer.token(jti="oidc-1")
    pretended = {"x-mesh-issuer": "", "x-mesh-subject": "operator", "x-mesh-models": "*"}
    for headers in ({}, pretended):
        answer = await rig.add("films", token, **headers)
        assert answer.status_code == 404, answer.text  # no such model yet; the call was let in
    refused = await rig.add("reviews", token, **pretended)
    assert refused.status_code == 403
    assert f"ann@{rig.issuer.url} is for the models films*" in refused.text
    answer = await rig.mesh.http.post(
        "/v1/models/films:train", json={}, headers={"authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 403
    assert "needs the scope train" in answer.text
    await until(lambda: len(rig.services.audit()) >= 3)
    assert rig.services.audit() == [
        (f"ann@{rig.issuer.url}", "oidc-1", "AddExamples", "films", "NOT_FOUND"),
        (f"ann@{rig.issuer.url}", "oidc-1", "AddExamples", "films", "NOT_FOUND"),
        (f"ann@{rig.issuer.url}", "oidc-1", "AddExamples", "reviews", "PERMISSION_DENIED"),
    ]


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"aud": "another-mesh"}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"iss": "https://other.example"}, "does not trust"),
        ({"iss": None}, ""),
        # The mesh's own issuer and audience, signed by a foreign key.
        ({"iss": "champion-mesh", "aud": "champion-mesh", "scope": "data view", "models": "*"}, ""),
        ({"exp": 1}, "expired"),
        ({"exp": None}, "expiry"),
    ],
)
async def test_other_tokens_of_the_issuer_are_refused(
    rig: Rig, claims: dict[str, Any], words: str
) -> None:
    answer = await rig.get("/v1/batches", await rig.issuer.token(**claims))
    assert answer.status_code == 401
    assert words in answer.text


async def test_a_claim_of_words_gives_the_same_as_a_list(rig: Rig) -> None:
    assert await rig.passes(await rig.issuer.token(groups="staff mesh-writers"))


@pytest.mark.parametrize(
    "claims",
    [
        {"groups": ["staff"]},
        {"groups": ["view", "data"]},
        {"groups": None},
        {"groups": "mesh-writersX"},
        {"mesh_models": None},
        {"sub": None},
        {"sub": "ann\nx-mesh-models: *"},
        {"sub": ["ann"]},
    ],
)
async def test_claims_that_give_no_scope_or_are_no_plain_words_are_refused(
    rig: Rig, claims: dict[str, Any]
) -> None:
    answer = await rig.get("/v1/batches", await rig.issuer.token(**claims))
    assert answer.status_code in (401, 403), answer.text


async def test_what_anybody_can_make_of_a_token_is_refused(rig: Rig) -> None:
    token = await rig.issuer.token()
    [jwk] = (await rig.issuer.http.get("/jwks")).json()["keys"]
    public: Any = RSAAlgorithm.from_jwk(jwk)
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for forged in (
        unsigned(token),
        with_public_key_as_secret(token, jwk["kid"], pem),
        with_claims(token, mesh_models="*"),
        with_claims(token, groups=["mesh-admins"]),
        # A caller of the mesh's own who says that the foreign issuer made the token.
        rig.mesh.key.token("view", iss=rig.issuer.url, aud=AUDIENCE, groups=["mesh-writers"]),
    ):
        assert (await rig.get("/v1/batches", forged)).status_code == 401


def with_public_key_as_secret(token: str, kid: str, public_key: bytes) -> str:
    """A token that holds where the public key is taken for a secret that both sides share."""
    text = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': kid})}.{token.split('.')[1]}"
    signature = hmac.digest(public_key, text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


async def test_new_keys_of_the_issuer_hold_after_the_cache_time_and_old_ones_no_longer(
    rig: Rig,
) -> None:
    old = await rig.issuer.token()
    assert await rig.passes(old)
    second = await rig.issuer.rotate(keep_old=True, algorithm=ES256)
    new = await rig.issuer.token()
    await until_async(lambda: rig.passes(new), timeout_s=KEYS_KEPT_S + 10)
    assert await rig.passes(old)
    third = await rig.issuer.rotate(keep_old=False)
    newest = await rig.issuer.token()
    await until_async(lambda: rig.passes(newest), timeout_s=KEYS_KEPT_S + 10)
    assert (second, third) == ("key-2", "key-3")
    # A token that such a key signs now, and those that it has signed and that were in use.
    assert not await rig.passes(await rig.issuer.token(kid=second, jti="late"))
    assert not await rig.passes(old)
    assert not await rig.passes(new)
