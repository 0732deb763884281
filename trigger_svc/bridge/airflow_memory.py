"""Airflow in memory, for tests: keeps the promises of `Airflow`, and fails on demand."""

from trigger_svc.bridge.airflow import Foreign, Run, RunState


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
        self.paused = False
        self.broken_tasks: list[str] = []
        """Ids of the tasks that failed in every run."""

    async def start_run(self, run: Run) -> None:
        """Start the run unless it exists already."""
        self.posts.append(run.id)
        self._fail()
        self._check_key(run.id, run.key)
        if run.id not in self.runs:
            self.runs[run.id] = run
            self.states[run.id] = RunState.ACTIVE

    async def restart_run(self, run_id: str) -> None:
        """Run a run that has ended again."""
        self.restarts.append(run_id)
        self._fail()
        self.states[run_id] = RunState.ACTIVE

    async def run_state(self, run_id: str, key: str) -> RunState:
        """Return the state of the run."""
        self._fail()
        self._check_key(run_id, key)
        return self.states.get(run_id, RunState.GONE)

    async def failed_tasks(self, run_id: str) -> list[str]:
        """Return the tasks that failed, the same ones in every run."""
        return self.broken_tasks

    async def is_paused(self) -> bool:
        """Return whether a test has paused the DAG."""
        return self.paused

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    def end(self, run_id: str, state: RunState) -> None:
        """Give a run this state, with which it ends."""
        self.states[run_id] = state

    def _check_key(self, run_id: str, key: str) -> None:
        if run_id in self.runs and self.runs[run_id].key != key:
            raise Foreign(run_id)

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
