"""In-memory twins of the registry, demotions and the store of answers."""

import asyncio
import json
from dataclasses import replace

from control_plane.changes.answer_store import StoredAnswer
from service_kit.errors import Aborted, FailedPrecondition, MeshError, NotFound, Unavailable
from service_kit.model_registry.promoted import TAG_PROMOTED, promoted_tag
from service_kit.model_registry.promotion import Promoted
from service_kit.model_registry.records import CHAMPION, PREVIOUS, ModelVersion, RegisteredModel


class TwinRegistry:
    """A registry with one model."""

    def __init__(self, **aliases: str) -> None:
        self.model = "reviews"
        self.aliases = dict(aliases)
        self.model_tags: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self.created_at = 1
        self.tags: dict[str, dict[str, str]] = {str(n + 1): {} for n in range(3)}
        self.up = True
        self.refused_calls = 0
        self.refused_aliases = 0
        """Writes of aliases that are still to fail."""

        self.deleted = False
        self.refused_deletions = 0
        self.hold_tags: asyncio.Event | None = None
        """Event until which no tag of the model is written; None: there is nothing to wait for."""

    async def find_model(self, name: str) -> RegisteredModel | None:
        self._answer()
        if name != self.model or self.deleted:
            return None
        return RegisteredModel(
            name,
            dict(self.aliases),
            dict(self.model_tags),
            dict(self.sources),
            self.created_at,
        )

    def replace(self, created_at: int, sources: dict[str, str], **aliases: str) -> None:
        """Delete the model and make it anew with other versions."""
        self.created_at, self.sources, self.aliases = created_at, sources, dict(aliases)
        self.model_tags, self.tags = {}, {version: {} for version in sources}
        self.deleted = False

    def promote(self, version: str, serve: bool) -> None:
        """Make a version the Champion as service_kit.model_registry.promotion does."""
        model = RegisteredModel(self.model, dict(self.aliases), dict(self.model_tags))
        self.model_tags[TAG_PROMOTED] = promoted_tag(model, version, serve)
        self.aliases[CHAMPION] = version

    async def list_models(self) -> list[RegisteredModel]:
        found = await self.find_model(self.model)
        return [found] if found else []

    async def get_version(self, name: str, version: str) -> ModelVersion:
        self._answer()
        if name != self.model or version not in self.tags:
            raise NotFound("no such version")
        source = self.sources.get(version, "")
        return ModelVersion(name, version, "run", source, dict(self.tags[version]))

    async def list_versions(self, name: str) -> list[ModelVersion]:
        self._answer()
        return [await self.get_version(name, version) for version in self.tags]

    async def delete_version(self, version: ModelVersion) -> None:
        self._answer()
        if self.refused_deletions:
            self.refused_deletions -= 1
            raise Unavailable("MLflow answered 503")
        if self.sources.get(version.version, "").startswith("s3:"):
            raise MeshError("artifacts at an s3: address cannot be read")
        del self.tags[version.version]

    async def unregister(self, name: str, version: str) -> None:
        self._answer()
        self.tags.pop(version, None)

    async def delete_model(self, name: str) -> None:
        self._answer()
        assert not self.tags, "its versions and their files go first"
        self.deleted = True

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        self._answer()
        if self.refused_aliases:
            self.refused_aliases -= 1
            raise Unavailable("MLflow answered 503")
        self.aliases[alias] = version

    async def tag_version(self, name: str, version: str, key: str, value: str) -> None:
        self._answer()
        self.tags[version][key] = value

    async def tag_model(self, name: str, key: str, value: str) -> None:
        if self.hold_tags:
            await self.hold_tags.wait()
        self._answer()
        self.model_tags[key] = value

    def _answer(self) -> None:
        if not self.up:
            self.refused_calls += 1
            raise Unavailable("MLflow is away")


class TwinDemotions:
    """Demotes in a TwinRegistry, or fails."""

    def __init__(self, registry: TwinRegistry) -> None:
        self.registry = registry
        self.failure: Exception | None = None
        self.count = 0
        self.moved_by_hand = False
        self.hold: asyncio.Event | None = None
        """Event until which no demotion goes on; None: there is nothing to wait for."""

    async def demote(self, model: str, expected_champion: str, previous: str) -> Promoted:
        if self.hold:
            await self.hold.wait()
        if self.failure:
            raise self.failure
        aliases = self.registry.aliases
        if aliases[CHAMPION] not in (expected_champion, previous):
            raise Aborted("another Champion")
        self.count += aliases[CHAMPION] == expected_champion
        aliases[CHAMPION], aliases[PREVIOUS] = previous, expected_champion
        return Promoted(previous, expected_champion, self.count)

    async def confirm(self, registered: RegisteredModel) -> None:
        if self.moved_by_hand:
            raise FailedPrecondition("somebody has moved the alias by hand")


class TwinAnswers:
    """An AnswerStore in memory."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], StoredAnswer] = {}
        self.up = True

    async def find(self, kind: str, request_id: str) -> StoredAnswer | None:
        self._answer()
        return self.kept.get((kind, request_id))

    async def keep(self, kind: str, request_id: str, answer: StoredAnswer) -> None:
        self._answer()
        plain = json.loads(json.dumps(answer.answer))
        self.kept[(kind, request_id)] = replace(answer, answer=plain)

    def _answer(self) -> None:
        if not self.up:
            raise Unavailable("PostgreSQL is away")
