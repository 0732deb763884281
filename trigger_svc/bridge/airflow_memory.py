"""Airflow in memory, for tests: the same promises, and failures on demand."""

from trigger_svc.bridge.airflow import Run, RunState


class MemoryAirflow:
    """Keeps runs in a dict; tests set their states and plan the failures of the next calls."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.states: dict[str, RunState] = {}
        self.failures: list[Exception] = []
        """Raised by the next calls, one each."""
        self.posts: list[str] = []
        """Ids of every attempt to start a run."""
        self.restarts: list[str] = []
        """Ids of every attempt to let a run begin again."""

    async def start_run(self, run: Run) -> None:
        """Make the run unless it is there already."""
        self.posts.append(run.id)
        self._fail()
        if run.id not in self.runs:
            self.runs[run.id] = run
            self.states[run.id] = RunState.ACTIVE

    async def restart_run(self, run_id: str) -> None:
        """Let a run that has ended begin again."""
        self.restarts.append(run_id)
        self._fail()
        self.states[run_id] = RunState.ACTIVE

    async def run_state(self, run_id: str) -> RunState:
        """Tell how the run stands."""
        self._fail()
        return self.states.get(run_id, RunState.GONE)

    async def close(self) -> None:
        """Nothing to let go of."""

    def end(self, run_id: str, state: RunState) -> None:
        """End a run."""
        self.states[run_id] = state

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
