"""An in-memory twin of a replica."""

import asyncio
from datetime import datetime
from typing import Any

from control_plane.fleet.replica_client import (
    Activated,
    Prepared,
    ReplicaAway,
    ReplicaState,
    Role,
    Slot,
    SlotState,
    StepFailed,
)
from service_kit.model_registry.records import VersionRef

KILLED = "killed"


class TwinReplica:
    """Acts as a replica without models. A test makes it fail at a step.

    A version is its number, or `NUMBER@SOURCE` when the replica knows the source.
    """

    def __init__(self, name: str, **serving: str) -> None:
        self.name = name
        self.address = f"{name}:1"
        self.serving = dict(serving)
        self.ready: dict[str, str] = {}
        self.challengers: dict[str, str] = {}
        self.withdrawn: dict[str, str] = {}
        """Models for which it does not answer as Champion now, and why."""

        self.withdrawn_challengers: set[str] = set()
        self.trouble = ""
        self.step = ""
        self.http_port = self.unary_port = 0
        self.up = True
        self.fail_at = ""
        self.fail_activations = 0
        self.killed_by_activate = False
        self.gate: asyncio.Event | None = None
        self.preparing = asyncio.Event()
        self.first_answers: dict[str, datetime] = {}
        self.calls: list[str] = []

    def kill(self) -> None:
        """Die, and lose the prepared versions."""
        self.up = False
        self.ready.clear()

    def restart(self, serving: dict[str, str]) -> None:
        """Come back and serve these versions, by model."""
        self.up, self.fail_at, self.killed_by_activate = True, "", False
        self.serving, self.challengers = dict(serving), {}

    async def state(self, timeout_s: float) -> ReplicaState:
        self._answer()
        slots = [
            _slot(
                model,
                version,
                SlotState.SERVING,
                first_answer_at=self.first_answers.get(version),
                withdrawn=model in self.withdrawn,
                detail=self.withdrawn.get(model, ""),
            )
            for model, version in self.serving.items()
        ]
        slots += [_slot(model, version, SlotState.READY) for model, version in self.ready.items()]
        slots += [
            _slot(
                model,
                version,
                SlotState.SERVING,
                Role.CHALLENGER,
                withdrawn=model in self.withdrawn_challengers,
            )
            for model, version in self.challengers.items()
        ]
        if self.step:
            slots.append(Slot("reviews", "2", SlotState.PREPARING, step=self.step))
        return ReplicaState(
            self.name,
            "cpu",
            tuple(slots),
            http_port=self.http_port,
            unary_port=self.unary_port,
            trouble=self.trouble,
        )

    async def prepare(self, model: str, ref: VersionRef, role: Role, timeout_s: float) -> Prepared:
        self._answer()
        version = _text(ref)
        self.calls.append(f"prepare {version}")
        self.preparing.set()
        if self.gate:
            await self.gate.wait()
        if self.fail_at == KILLED:
            self.kill()
            raise ReplicaAway("connection reset")
        if self.fail_at:
            raise StepFailed(self.fail_at, "it broke")
        if role is Role.CHAMPION and self.serving.get(model) != version:
            self.ready[model] = version
        return Prepared(12.0)

    async def activate(
        self, model: str, ref: VersionRef, role: Role, timeout_s: float
    ) -> Activated:
        self._answer()
        version = _text(ref)
        self.calls.append(f"activate {version}")
        if self.killed_by_activate:
            self.kill()
            raise ReplicaAway("connection reset")
        if self.fail_activations:
            self.fail_activations -= 1
            raise StepFailed("activate", "it broke")
        if role is Role.CHALLENGER:
            before, self.challengers[model] = self.challengers.get(model, ""), version
            return Activated(0.1, before, 0)
        before = self.serving.get(model, "")
        if before != version:
            if self.ready.pop(model, "") != version:
                raise StepFailed("activate", f"{version} is not prepared")
            self.serving[model] = version
        return Activated(0.1, before, 3)

    async def abort(
        self, model: str, ref: VersionRef, role: Role, timeout_s: float, removed: bool = False
    ) -> None:
        self._answer()
        version = _text(ref)
        self.calls.append(f"abort {version}")
        slots = [self.challengers] if role is Role.CHALLENGER else [self.ready]
        if removed and role is Role.CHAMPION:
            slots.append(self.serving)
        for slot in slots:
            if slot.get(model) == version:
                del slot[model]

    async def close(self) -> None:
        return

    def _answer(self) -> None:
        if not self.up:
            raise ReplicaAway("connection refused")


def _text(ref: VersionRef) -> str:
    return f"{ref.version}@{ref.source}" if ref.source else ref.version


def _slot(
    model: str, text: str, state: SlotState, role: Role = Role.CHAMPION, **fields: Any
) -> Slot:
    version, _, source = text.partition("@")
    return Slot(model, version, state, role, source=source, **fields)
