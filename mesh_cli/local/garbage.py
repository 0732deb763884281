"""Finds and removes what a local mesh no longer needs: old versions, their copies, old folders."""

import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2

from mesh_cli.errors import CliError
from mesh_cli.local.local_mesh import LocalMesh
from mesh_cli.local.ports import REPLICA
from service_kit.database import connect
from service_kit.errors import Unavailable
from service_kit.model_registry.expired_versions import expired
from service_kit.model_registry.records import ModelVersion, RegisteredModel
from service_kit.model_registry.registry import Registry

_DAY_S = 86_400.0


@dataclass(frozen=True)
class Garbage:
    """One thing that can be removed: a version of a model, or folders."""

    kind: str
    name: str
    why: str
    folders: tuple[Path, ...] = ()
    version: ModelVersion | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """Bytes on this machine's disk."""
        return sum(
            path.stat().st_size
            for folder in self.folders
            for path in folder.rglob("*")
            if path.is_file()
        )


class Collector:
    """Finds and removes garbage.

    keep: newest versions of each model that stay; days: age at which Airflow's task logs go.
    """

    def __init__(self, mesh: LocalMesh, registry: Registry, keep: int, days: int) -> None:
        self._mesh = mesh
        self._registry = registry
        self._keep = keep
        self._days = days

    async def find(self) -> list[Garbage]:
        """Everything that can be removed. Raises Unavailable while MLflow is away."""
        models = await self._registry.list_models()
        old: list[Garbage] = []
        kept: dict[str, set[str]] = {}
        for model in models:
            kept[model.name], old_versions = await self._versions(model)
            old += old_versions
        return [*old, *self._caches(kept), *self._jobs(), *self._task_logs()]

    async def remove(self, garbage: Garbage) -> None:
        """Delete it. A call after a failed one deletes the rest."""
        if garbage.version is not None:
            await self._registry.delete_version(garbage.version)
        else:
            for folder in garbage.folders:
                shutil.rmtree(folder, ignore_errors=True)

    async def _versions(self, model: RegisteredModel) -> tuple[set[str], list[Garbage]]:
        versions = await self._registry.list_versions(model.name)
        old = expired(versions, set(model.aliases.values()), self._keep)
        kept = {version.version for version in versions if version not in old}
        why = f"no alias, and not among the newest {self._keep}"
        return kept, [
            Garbage("version", f"{model.name} {item.version}", why, self._files(item), item)
            for item in old
        ]

    def _files(self, version: ModelVersion) -> tuple[Path, ...]:
        logged_model = version.source.rpartition("/")[2]
        return tuple(self._mesh.home.artifacts.glob(f"*/models/{logged_model}"))

    def _caches(self, kept: dict[str, set[str]]) -> Iterator[Garbage]:
        names = {part.name for part in self._mesh.parts}
        for replica in sorted(self._mesh.home.root.glob(f"{REPLICA}*")):
            if replica.name not in names:
                yield Garbage("replica", replica.name, "the mesh has no such replica", (replica,))
                continue
            for folder in sorted((replica / "models").glob("*/*/")):
                model, version = folder.parent.name, folder.name
                if version.isdigit() and version not in kept.get(model, ()):
                    name = f"{replica.name}: {model} {version}"
                    yield Garbage("cache", name, "the version is not kept", (folder,))

    def _jobs(self) -> Iterator[Garbage]:
        folders = sorted((self._mesh.home.root / "training" / "jobs").glob("*/"))
        # The database is asked after the folders are listed. A job makes its folder after its row,
        # so each listed folder of a job under way has a row by then, and stays.
        under_way = self._jobs_under_way() if folders else ()
        for folder in folders:
            if folder.name not in under_way:
                yield Garbage("job", folder.name, "the training has ended", (folder,))

    def _jobs_under_way(self) -> Collection[str]:
        try:
            with (
                closing(connect(self._mesh.database_url, "mesh gc")) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(
                    "SELECT id || '-' || attempt FROM mesh.training_jobs"
                    " WHERE state IN ('QUEUED', 'RUNNING', 'EVALUATING')"
                )
                return {name for (name,) in cursor.fetchall()}
        except (Unavailable, psycopg2.OperationalError) as error:
            raise CliError(
                f"PostgreSQL does not say which trainings are under way: {error}"
            ) from error

    def _task_logs(self) -> Iterator[Garbage]:
        oldest = time.time() - self._days * _DAY_S
        for folder in sorted((self._mesh.home.logs / "airflow").glob("dag_id=*/run_id=*/")):
            if folder.stat().st_mtime < oldest:
                why = f"older than {self._days} days"
                yield Garbage("task log", folder.name.removeprefix("run_id="), why, (folder,))
