"""What keeps models' rows from getting on, as far as the bridge sees it: said in ListBatches."""

import logging
import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import psycopg2

from service_kit.errors import MeshError, Unavailable
from trigger_svc.bridge.airflow import Airflow
from trigger_svc.bridge.backoff import backoff_s

log = logging.getLogger(__name__)

SEAL, DAG, TABLE, ROWS = "seal", "dag", "table", "rows"  # kinds of trouble
DAG_LOOK_S = 5.0  # seconds between two questions whether the DAG is paused
_PAUSED = (
    "the DAG is paused in Airflow, so the run of its batch waits: switch the DAG on in Airflow's"
    " page, or by `airflow dags unpause`"
)


class TroubleStore(Protocol):
    """The part of PostgresBatches that keeps troubles; see there."""

    async def note_troubles(self, kind: str, troubles: Mapping[str, str]) -> None: ...


@dataclass
class _Stuck:
    """A model whose rows could not be sealed."""

    message: str
    failures: int
    retry_at: float


class Troubles:
    """Remembers models whose rows could not be sealed, and whether the DAG is paused."""

    def __init__(
        self,
        store: TroubleStore,
        airflow: Airflow,
        clock: Callable[[], float],
        jitter: random.Random,
    ) -> None:
        self._store = store
        self._airflow = airflow
        self._clock = clock
        self._jitter = jitter
        self._stuck: dict[str, _Stuck] = {}
        self._noted: dict[str, dict[str, str]] = {}
        self._dag_look_at = 0.0
        self._paused = False

    def pause_s(self, model: str) -> float:
        """Return the seconds until the bridge may try again to seal the model's rows."""
        stuck = self._stuck.get(model)
        return 0.0 if stuck is None else stuck.retry_at - self._clock()

    def seal_failed(self, model: str, error: Exception) -> float:
        """Pass the model over; return the seconds until the next attempt, longer each time."""
        before = self._stuck.get(model)
        failures = 1 if before is None else before.failures + 1
        pause = backoff_s(failures, self._jitter)
        message = f"its waiting rows cannot be sealed yet: {_first_line(error)}"
        self._stuck[model] = _Stuck(message, failures, self._clock() + pause)
        if failures == 1:
            log.warning("model is passed over", extra={"model": model, "why": message})
        return pause

    def seal_succeeded(self, model: str) -> None:
        """Forget the trouble of this model."""
        self._stuck.pop(model, None)

    async def report_seals(self, models: Iterable[str]) -> None:
        """Note the models whose rows cannot be sealed; only these `models` wait for it."""
        self._stuck = {name: self._stuck[name] for name in models if name in self._stuck}
        await self._note(SEAL, {name: stuck.message for name, stuck in self._stuck.items()})

    async def look_at_the_dag(self, models: Iterable[str]) -> float:
        """Note, for these models with an open batch, that the DAG is paused; look now and then.

        Asks for no turn of its own, so the seconds until the next step are infinite.
        """
        waiting = sorted(set(models))
        if waiting and self._clock() >= self._dag_look_at:
            self._dag_look_at = self._clock() + DAG_LOOK_S
            try:
                self._paused = await self._airflow.is_paused()
            except Unavailable:
                log.debug("Airflow does not say whether the DAG is paused")
        await self._note(DAG, dict.fromkeys(waiting, _PAUSED) if self._paused else {})
        return math.inf

    async def _note(self, kind: str, troubles: dict[str, str]) -> None:
        if self._noted.get(kind) != troubles:
            await self._store.note_troubles(kind, troubles)
            self._noted[kind] = troubles


def _first_line(error: Exception) -> str:
    if isinstance(error, psycopg2.Error) and not isinstance(error, MeshError):
        return error.diag.message_primary or type(error).__name__
    return str(error)
