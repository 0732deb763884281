"""The versions that this replica serves, one in each slot. Lives on the event loop."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from inference_svc.metrics import exported as metrics
from inference_svc.metrics.answer_counts import AnswerCounts
from inference_svc.versions.identity import VersionId
from inference_svc.versions.preparer import PreparedVersion

log = logging.getLogger(__name__)

CHAMPION, CHALLENGER = "champion", "challenger"
ROLES = (CHAMPION, CHALLENGER)


@dataclass(frozen=True, order=True)
class SlotKey:
    """Names a slot: a model and a role."""

    model: str
    role: str = CHAMPION

    @property
    def alias(self) -> str:
        """The role as the registry and the answers spell it."""
        return self.role.capitalize()


@dataclass(eq=False)
class ServedVersion:
    """The version that a slot serves, and the number of requests that it is answering."""

    slot: SlotKey
    prepared: PreparedVersion
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    first_answer_at: datetime | None = None
    in_flight: int = 0
    retired: bool = False
    withdrawn: str = ""
    """Why it does not answer now; empty: it answers."""
    stats: AnswerCounts = field(init=False)

    def __post_init__(self) -> None:
        self.stats = AnswerCounts(self.prepared.model.spec.labels)

    @property
    def version(self) -> str:
        """Number of the version in the registry."""
        return self.prepared.info.version

    @property
    def id(self) -> VersionId:
        """Which version of the model it is."""
        return self.prepared.info.id


@dataclass(frozen=True)
class Swap:
    """The result of an activation. `drained_requests` were still on the old version."""

    swap_ms: float
    from_version: str
    drained_requests: int


class Slots:
    """The served versions. A request leases one and keeps it until it is answered."""

    def __init__(self, freed: Callable[[], None]) -> None:
        """`freed` is called when the last request has left a version that was replaced."""
        self._served: dict[SlotKey, ServedVersion] = {}
        self._freed = freed

    def served(self, slot: SlotKey) -> ServedVersion | None:
        """The version in a slot, or None."""
        return self._served.get(slot)

    def answering(self, slot: SlotKey) -> ServedVersion | None:
        """The version that answers requests for a slot: without a Challenger, the Champion."""
        return self.served(slot) or self.served(SlotKey(slot.model))

    def serving(self, model: str, version: str) -> ServedVersion | None:
        """This version of a model, if a slot of any role serves it."""
        return next((one for one in self.of_model(model) if one.version == version), None)

    def of_model(self, model: str) -> list[ServedVersion]:
        """Every served version of a model, Champion first."""
        keys = (SlotKey(model, role) for role in ROLES)
        return [served for key in keys if (served := self._served.get(key)) is not None]

    def all_served(self) -> list[ServedVersion]:
        """Every served version, ordered by model, Champion first."""
        return sorted(
            self._served.values(),
            key=lambda served: (served.slot.model, ROLES.index(served.slot.role)),
        )

    def model_names(self) -> list[str]:
        """Names of the served models, in order."""
        return sorted({slot.model for slot in self._served})

    @contextmanager
    def lease(self, served: ServedVersion) -> Iterator[None]:
        """Hold a version while it answers a request."""
        with self.hold(served):
            yield
            if served.first_answer_at is None:
                served.first_answer_at = datetime.now(UTC)

    @contextmanager
    def hold(self, served: ServedVersion) -> Iterator[None]:
        """Hold a version while it computes something that is not a request."""
        served.in_flight += 1
        try:
            yield
        finally:
            served.in_flight -= 1
            if served.retired and served.in_flight == 0:
                self._freed()

    def swap(self, slot: SlotKey, prepared: PreparedVersion) -> Swap:
        """Serve a prepared version from now on; the old one finishes the requests that it has."""
        started = time.perf_counter()
        old = self._served.get(slot)
        self._served[slot] = ServedVersion(slot, prepared)
        swap_ms = (time.perf_counter() - started) * 1e3
        metrics.SERVED_VERSION.labels(slot.model, slot.role, prepared.info.version).set(1)
        if old is None:
            swap = Swap(swap_ms, "", 0)
        else:
            if old.version != prepared.info.version:
                metrics.SERVED_VERSION.remove(slot.model, slot.role, old.version)
            swap = Swap(swap_ms, old.version, old.in_flight)
            self._retire(old)
        log.info(
            "serving version",
            extra={"model": slot.model, "role": slot.role, "version": prepared.info.version}
            | {"from_version": swap.from_version, "drained_requests": swap.drained_requests},
        )
        return swap

    def retire(self, slot: SlotKey) -> None:
        """Serve nothing in this slot any more; the version finishes the requests that it has."""
        old = self._served.pop(slot)
        metrics.SERVED_VERSION.remove(slot.model, slot.role, old.version)
        self._retire(old)
        fields = {"model": slot.model, "role": slot.role, "version": old.version}
        log.info("serving no more", extra=fields)

    def _retire(self, old: ServedVersion) -> None:
        old.retired = True
        if old.in_flight == 0:
            self._freed()
