"""Descriptions of a mesh, for tests of Envoy's configuration."""

from dataclasses import replace

from control_plane.access.rules import AccessRules, Issuer, Scope, TokenState
from control_plane.access.token_keys import nobodys_keys
from control_plane.topology import Address, MeshTopology, Split

TOPOLOGY = MeshTopology(
    replicas=(Address("127.0.0.1", 1001), Address("127.0.0.1", 1002)),
    training=Address("127.0.0.1", 1003),
    trigger=Address("127.0.0.1", 1004),
    control_plane=Address("127.0.0.1", 1005),
)


NAMES = replace(
    TOPOLOGY,
    replicas=(Address("inference-1", 1001), Address("inference-2", 1001)),
    replicas_http=(Address("inference-1", 1002),),
    training=Address("training", 1003),
    allowed_origins=("https://ui.example", "*"),
    host="0.0.0.0",
)


SPLIT = replace(TOPOLOGY, splits=(("reviews", Split(75, 20, 5)),))


UNARY = replace(SPLIT, replicas_unary=(Address("127.0.0.1", 1006), Address("127.0.0.1", 1007)))


GUARDED = replace(TOPOLOGY, access=AccessRules())


ISSUER = Issuer(
    issuer="https://idp.example",
    audience="mesh",
    jwks_uri="https://idp.example/keys",
    models_claim="mesh.models",
    scopes=(("mesh-admins", (Scope.VIEW, Scope.RELEASE)), ("mesh-users", (Scope.PREDICT,))),
    scope_claim="realm_access.roles",
)


WITH_ISSUER = replace(NAMES, access=AccessRules(open_predict=True, issuers=(ISSUER,)))


TOKENS = TokenState(nobodys_keys())
