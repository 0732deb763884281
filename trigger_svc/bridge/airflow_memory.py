"""Airflow in memory, for tests: keeps the promises of `Airflow`, and fails on demand."""

from trigger_svc.bridge.airflow import Run, RunState


class MemoryAirflow:
    """Keeps runs in a dict. Tests set the states of runs and the failures of the next calls."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.states: dict[str, RunState] = {}
        self.failures: list[Exception] = []
        """Each of the next calls raises the first of these and removes it."""
        self.posts: list[str] = []
        """Ids of the runs of all attempts to start one, failed attempts included."""
        self.restarts: list[str] = []
        """Ids of the runs of all attempts to restart one, failed attempts included."""

    async def start_run(self, run: Run) -> None:
        """Start the run unless it exists already."""
        self.posts.append(run.id)
        self._fail()
        if run.id not in self.runs:
            self.runs[run.id] = run
            self.states[run.id] = RunState.ACTIVE

    async def restart_run(self, run_id: str) -> None:
        """Run a run that has ended again."""
        self.restarts.append(run_id)
        self._fail()
        self.states[run_id] = RunState.ACTIVE

    async def run_state(self, run_id: str) -> RunState:
        """Return the state of the run."""
        self._fail()
        return self.states.get(run_id, RunState.GONE)

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    def end(self, run_id: str, state: RunState) -> None:
        """Give a run this state, with which it ends."""
        self.states[run_id] = state

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
