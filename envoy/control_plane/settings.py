"""Settings of the control plane, from the environment: CONTROL_<FIELD>."""

from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from control_plane.access.rules import AccessRules, Issuer, issuers_of
from control_plane.canary.judge import Rules
from control_plane.fleet.discovery import replica_address
from control_plane.topology import (
    CALLS_PER_REPLICA,
    CALLS_PER_SECOND,
    DEFAULT_HOST,
    DEFAULT_PORT,
    STALLED_AFTER_S,
    Address,
    Limits,
    MeshTopology,
)
from service_kit.settings import MlflowSettings


def _named(field: str) -> AliasChoices:
    """Take CONTROL_PLANE_<FIELD> from the environment as well as CONTROL_<FIELD>."""
    names = (f"CONTROL_PLANE_{field.upper()}", f"CONTROL_{field.upper()}")
    return AliasChoices(*names, field)


class ControlPlaneSettings(MlflowSettings):
    """Settings of the control plane."""

    model_config = SettingsConfigDict(env_prefix="CONTROL_")

    replicas: Annotated[tuple[str, ...], NoDecode] = ()
    """gRPC addresses of the inference replicas, host:port or dns://host:port, separated by commas.

    A name is looked up again every few seconds, and each of its addresses is a replica.
    """

    replicas_file: Path | None = None
    """File with more replicas, one host:port a line; read again at each look at the fleet."""

    database_url: str = "postgresql:///training"
    """The PostgreSQL database whose locks order promotions and rollbacks."""

    signing_key: Path | None = None
    """PEM file of the Ed25519 private key that signs which version is served. Not set: nothing is
    signed, and whoever sets the alias Serving in MLflow changes what is served."""

    record_keys: Path | None = None
    """PEM file of the public keys whose records count besides those of the own key."""

    prepare_seconds: float = 300.0
    """Seconds that a replica may take to prepare a version before a Reload is given up."""

    upkeep_seconds: float = 1.0
    """Seconds between two looks at the fleet."""

    canary_p_value: float = Field(default=Rules.canary_p_value, gt=0, le=1)
    """Largest p-value of the comparison on held-out rows with which a canary promotes."""

    training: str = "127.0.0.1:9002"
    """gRPC address at which Envoy finds the training service."""

    trigger: str = "127.0.0.1:9003"
    """gRPC address at which Envoy finds the trigger service."""

    reachable_at: str = ""
    """gRPC address at which Envoy finds this control plane; empty: its own host and port."""

    envoy_host: str = DEFAULT_HOST
    """IP address on which Envoy listens for clients."""

    envoy_port: int = DEFAULT_PORT
    """Port on which Envoy listens for clients."""

    envoy_certificate: Annotated[tuple[str, ...], NoDecode] = ()
    """Path, where Envoy runs, of the file that names the certificate and the key that Envoy shows
    to clients; empty: clients come without TLS. `python -m service_kit.certificates` writes one.
    Several, separated by commas: the one that is good for the name that a client asks for, else
    the first."""

    envoy_identity: str = ""
    """Folder, where Envoy runs, of the files that `control_plane.render dynamic --identity` writes;
    needed with MESH_IDENTITY_FOLDER, as Envoy then has to prove who it is."""

    calls_per_replica: int = Field(default=CALLS_PER_REPLICA, ge=1)
    """Predictions that may wait or run for each replica; Envoy refuses further ones."""

    stalled_seconds: float = Field(default=STALLED_AFTER_S, ge=1, le=60)
    """Seconds without a sign of work after which a unary call is given to another replica as well,
    and the first answer counts. A replica that is only slow gives such signs."""

    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose pages may call from a browser (CORS), separated by commas; "*": all."""

    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Further host names by which clients may reach the mesh, separated by commas; *.example.com:
    every name below example.com; "*": any. IP addresses and names without a dot are always taken.
    Without a list any name is taken when the mesh is published on more than loopback."""

    published_on: str = ""
    """IP address on which clients find the mesh; empty: CONTROL_ENVOY_HOST. In a container, which
    listens on every address, it is the address of the machine that is published."""

    calls_per_second: int = Field(default=CALLS_PER_SECOND, ge=0)
    """Calls a second that Envoy takes of one subject, or without a token of one address; 0: no
    limit. There is none when the mesh is published on loopback only."""
    token_keys: Path | None = Field(default=None, validation_alias=_named("token_keys"))
    """File with the public keys (JWKS) that tokens are checked with; read again when it changes.
    Empty: no token is asked for, and anybody may call everything."""

    revoked_tokens_file: Path | None = Field(
        default=None, validation_alias=_named("revoked_tokens_file")
    )
    """File that the control plane keeps a copy of the revoked tokens in, so that it knows them
    when it starts while PostgreSQL is away; empty: it keeps none."""

    open_predict: bool = Field(default=False, validation_alias=_named("open_predict"))
    """Predictions, the list of models, health and reflection need no token."""

    oidc_issuers: Annotated[tuple[Issuer, ...], NoDecode] = Field(
        default=(), validation_alias=_named("oidc_issuers")
    )
    """Trusted issuers of tokens by OpenID Connect: a JSON list of objects with issuer, audience,
    jwks_uri, scope_claim, scopes, models_claim, subject_claim, ca_file."""

    def topology(self) -> MeshTopology:
        """Describe the mesh without its replicas.

        Raises ValueError when nothing says where Envoy finds the control plane.
        """
        if not self.port and not self.reachable_at:
            raise ValueError("CONTROL_PORT or CONTROL_REACHABLE_AT is needed: Envoy has to find it")
        if bool(self.identity_folder) != bool(self.envoy_identity):
            raise ValueError(
                "MESH_IDENTITY_FOLDER and CONTROL_ENVOY_IDENTITY are needed together: with one of "
                "them alone, Envoy and the parts would not understand each other"
            )
        return MeshTopology(
            replicas=(),
            training=Address.parse(self.training),
            trigger=Address.parse(self.trigger),
            control_plane=Address.parse(self.reachable_at or f"{self.host}:{self.port}"),
            host=self.envoy_host,
            port=self.envoy_port,
            certificates=self.envoy_certificate,
            identity=self.envoy_identity,
            allowed_origins=self.allowed_origins,
            allowed_hosts=self.allowed_hosts,
            access=AccessRules(self.open_predict, self.oidc_issuers) if self.token_keys else None,
            published_on=self.published_on.removeprefix("[").removesuffix("]"),
            limits=Limits(
                calls_per_replica=self.calls_per_replica, calls_per_second=self.calls_per_second
            ),
            stalled_after_s=self.stalled_seconds,
        )

    @field_validator("allowed_origins", "allowed_hosts", "envoy_certificate", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("token_keys", "revoked_tokens_file", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("oidc_issuers", mode="before")
    @classmethod
    def _read_issuers(cls, value: object) -> object:
        return issuers_of(value or "[]") if isinstance(value, str) else value

    @field_validator("replicas", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(str(replica_address(part)) for part in value.split(",") if part.strip())
