"""The ways to change something, each of which first confirms that this control plane leads."""

from collections.abc import Awaitable, Callable

import httpx

from control_plane.fleet.grpc_replica import GrpcReplica
from control_plane.fleet.replica_client import Activated, Prepared, Role
from control_plane.models.signed_records import SignedRecords
from control_plane.models.signed_registry import SignedRegistry
from service_kit.identities.identity import Identity
from service_kit.model_registry.records import ModelVersion, VersionRef

Confirm = Callable[[], Awaitable[None]]
"""Raises NotLeading or Unavailable unless this control plane leads."""


class FencedRegistry(SignedRegistry):
    """A registry that only the leader writes to."""

    def __init__(
        self,
        url: str,
        confirm: Confirm,
        records: SignedRecords | None = None,
        auth: httpx.Auth | None = None,
    ) -> None:
        super().__init__(url, records, auth)
        self._confirm = confirm

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        await self._confirm()
        await super().set_alias(name, alias, version)

    async def delete_alias(self, name: str, alias: str) -> None:
        await self._confirm()
        await super().delete_alias(name, alias)

    async def tag_version(self, name: str, version: str, key: str, value: str) -> None:
        await self._confirm()
        await super().tag_version(name, version, key, value)

    async def tag_model(self, name: str, key: str, value: str) -> None:
        await self._confirm()
        await super().tag_model(name, key, value)

    async def put_back(self, name: str) -> None:
        await self._confirm()
        await super().put_back(name)

    async def delete_version(self, version: ModelVersion) -> None:
        await self._confirm()
        await super().delete_version(version)

    async def unregister(self, name: str, version: str) -> None:
        await self._confirm()
        await super().unregister(name, version)

    async def delete_model(self, name: str) -> None:
        await self._confirm()
        await super().delete_model(name)


class FencedReplica(GrpcReplica):
    """A replica that only the leader steers."""

    def __init__(self, address: str, confirm: Confirm, identity: Identity | None = None) -> None:
        super().__init__(address, identity)
        self._confirm = confirm

    async def prepare(self, model: str, ref: VersionRef, role: Role, timeout_s: float) -> Prepared:
        await self._confirm()
        return await super().prepare(model, ref, role, timeout_s)

    async def activate(
        self, model: str, ref: VersionRef, role: Role, timeout_s: float
    ) -> Activated:
        await self._confirm()
        return await super().activate(model, ref, role, timeout_s)

    async def abort(
        self, model: str, ref: VersionRef, role: Role, timeout_s: float, removed: bool = False
    ) -> None:
        await self._confirm()
        await super().abort(model, ref, role, timeout_s, removed)
