"""`mesh scale` over a twin of the process manager: what is started, stopped and written down."""

import fcntl
import json
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mesh.errors import Unavailable
from mesh.v1 import reload_pb2
from mesh_cli.deployments import fleet_wait
from mesh_cli.deployments.deployment import Report, Scaled
from mesh_cli.deployments.fleet_wait import GetFleet
from mesh_cli.errors import BadInput, CliError, NotUp
from mesh_cli.local.home import MeshSettings
from mesh_cli.local.local_mesh import LocalMesh
from mesh_cli.local.ports import internal_names, internal_ports, replica_names
from mesh_cli.local.scale import Scaling
from mesh_cli.local.supervisord_config import Program
from mesh_cli.main import app


class TwinProcesses:
    """A process manager that runs no programs."""

    def __init__(self) -> None:
        self.described: dict[str, Program] = {}
        self.started: list[str] = []
        self.up = True
        self.stopped: list[str] = []

    def pid(self) -> int | None:
        return 1 if self.up else None

    def update(self, programs: Iterable[Program]) -> None:
        programs_by_name = {program.name: program for program in programs}
        assert not [name for name in self.started if name not in programs_by_name]
        self.described = programs_by_name

    def start_program(self, name: str) -> None:
        assert name in self.described
        self.started.append(name)

    def stop_programs(self, names: Container[str], timeout_s: float = 0) -> list[str]:
        self.stopped += [name for name in self.started if name in names]
        self.started = [name for name in self.started if name not in names]
        return []

    def programs(self) -> dict[str, dict[str, Any]]:
        return {
            name: {"name": name, "statename": "RUNNING" if name in self.started else "STOPPED"}
            for name in self.described
        }


class TwinFleet:
    """A control plane that lists the replicas of its file; they are eligible when they run."""

    def __init__(self, mesh: LocalMesh, processes: TwinProcesses) -> None:
        self.mesh = mesh
        self.processes = processes
        self.broken: set[str] = set()
        self.stuck: set[str] = set()
        self.away = 0
        self.looks: list[list[str]] = []

    def get(self) -> reload_pb2.Fleet:
        if self.away:
            self.away -= 1
            raise Unavailable("the control plane is away")
        ports = {f"127.0.0.1:{port}": name for name, port in self.mesh.record["ports"].items()}
        names = {ports[line] for line in self.mesh.home.replicas_file.read_text().split()}
        names |= self.stuck
        self.looks.append(sorted(names))
        return reload_pb2.Fleet(
            replicas=[
                reload_pb2.Replica(
                    id=name,
                    address=f"127.0.0.1:{self.mesh.record['ports'][name]}",
                    eligible=name in self.processes.started and name not in self.broken,
                    detail="is starting",
                )
                for name in sorted(names)
            ]
        )


class ScaledMesh:
    """A mesh whose record and process manager say that it is up with two replicas."""

    def __init__(self, home: Path) -> None:
        self.mesh = LocalMesh(MeshSettings(home=home))
        self.mesh.home.make_folders()
        self.mesh.home.write_record(
            {
                "run_id": "test",
                "settings": self.mesh.next_settings.model_dump(mode="json"),
                "asked_replicas": 2,
                "ports": internal_ports(internal_names(2), {}),
            }
        )
        self.processes = TwinProcesses()
        self.mesh.processes = self.processes  # type: ignore[assignment]
        self.processes.update(part.program for part in self.mesh.parts)
        self.processes.started = list(self.processes.described)
        self.mesh.show_replicas(replica_names(2))
        self.fleet = TwinFleet(self.mesh, self.processes)
        self.reports: list[tuple[str, int]] = []

    def to(self, count: int, starting_at_once: int = 1) -> Scaled:
        return Scaling(
            self.mesh,
            self.fleet.get,
            lambda step, total: self.reports.append((step, total)),
            starting_at_once,
        ).to(count)

    def holds(self, count: int) -> bool:
        """Processes, the control plane's file, the record and the parts agree on `count`."""
        names = replica_names(count)
        ports = self.mesh.record["ports"]
        shown = self.mesh.home.replicas_file.read_text().split()
        return (
            [n for n in self.processes.started if n.startswith("replica-")] == names
            and [n for n in self.processes.described if n.startswith("replica-")] == names
            and shown == [f"127.0.0.1:{ports[name]}" for name in names]
            and set(ports) == set(internal_names(count))
            and len(set(ports.values())) == len(ports)
            and [p.name for p in self.mesh.parts if p.name.startswith("replica-")] == names
            and self.mesh.settings.replicas == count
        )


@pytest.fixture
def scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScaledMesh:
    monkeypatch.setattr(fleet_wait, "POLL_S", 0)
    monkeypatch.setattr(fleet_wait, "ELIGIBLE_TIMEOUT_S", 0)
    monkeypatch.setattr(fleet_wait, "GONE_TIMEOUT_S", 0)
    return ScaledMesh(tmp_path)


def test_replicas_join_and_the_newest_leave(scaled: ScaledMesh) -> None:
    added = ["replica-3", "replica-4"]
    assert scaled.to(4) == Scaled(replica_names(4), added, [])
    assert scaled.holds(4)
    assert scaled.to(1) == Scaled(["replica-1"], [], ["replica-4", "replica-3", "replica-2"])
    assert scaled.holds(1)
    assert scaled.reports[:2] == [("replica-3 joined", 2), ("replica-4 joined", 2)]
    left = [("replica-4 left", 3), ("replica-3 left", 3), ("replica-2 left", 3)]
    assert scaled.reports[2:] == left
    assert not set(scaled.processes.stopped) & {"replica-1", "postgres", "control-plane"}


def test_the_same_number_changes_nothing(scaled: ScaledMesh) -> None:
    assert scaled.to(2) == Scaled(replica_names(2), [], [])
    assert scaled.holds(2)
    assert scaled.processes.stopped == []


@pytest.mark.parametrize(("at_once", "waves"), [(1, 3), (2, 2), (8, 1)])
def test_replicas_start_a_few_at_a_time(scaled: ScaledMesh, at_once: int, waves: int) -> None:
    scaled.to(5, starting_at_once=at_once)
    assert len(scaled.fleet.looks) == waves
    assert scaled.holds(5)


def test_the_file_is_changed_before_a_process_is_stopped(
    scaled: ScaledMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = scaled.processes.stop_programs
    shown: list[int] = []

    def stop_programs(names: Container[str], timeout_s: float = 0) -> list[str]:
        if "replica-2" in names:
            shown.append(len(scaled.mesh.home.replicas_file.read_text().split()))
        return stop(names, timeout_s)

    monkeypatch.setattr(scaled.processes, "stop_programs", stop_programs)
    scaled.to(1)
    assert shown == [1]


def test_a_replica_that_gets_no_traffic_is_taken_back(scaled: ScaledMesh) -> None:
    scaled.fleet.broken = {"replica-4"}
    with pytest.raises(CliError, match=r"replica-4 is starting, see .*replica-4\.log"):
        scaled.to(4)
    assert scaled.holds(2)
    scaled.fleet.broken = set()
    scaled.to(4)
    assert scaled.holds(4)


def test_ctrl_c_takes_new_replicas_back(scaled: ScaledMesh, monkeypatch: Any) -> None:
    def interrupt() -> reload_pb2.Fleet:
        raise KeyboardInterrupt

    monkeypatch.setattr(scaled.fleet, "get", interrupt)
    with pytest.raises(KeyboardInterrupt):
        scaled.to(3)
    assert scaled.holds(2)


def test_a_replica_that_keeps_its_traffic_is_not_stopped(scaled: ScaledMesh) -> None:
    scaled.fleet.stuck = {"replica-2"}
    with pytest.raises(CliError, match=r"still sends traffic to old replicas .*replica-2"):
        scaled.to(1)
    assert scaled.holds(2)


def test_a_change_that_was_interrupted_is_finished_by_the_next(scaled: ScaledMesh) -> None:
    ports = scaled.mesh.record["ports"]
    more = internal_ports(internal_names(4), ports)
    scaled.mesh.resize(4, {**more, **ports})
    scaled.processes.update(part.program for part in scaled.mesh.parts)
    scaled.processes.start_program("replica-3")
    assert scaled.to(3) == Scaled(replica_names(3), [], [])
    assert "replica-4" not in scaled.processes.described
    assert scaled.mesh.settings.replicas == 3
    assert len(scaled.mesh.home.replicas_file.read_text().split()) == 3


def test_a_control_plane_that_is_away_for_a_moment_is_waited_for(
    scaled: ScaledMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_wait, "ELIGIBLE_TIMEOUT_S", 10)
    scaled.fleet.away = 2
    scaled.to(3)
    assert scaled.holds(3)


def test_a_mesh_that_is_stopped_meanwhile_is_not_up(scaled: ScaledMesh, monkeypatch: Any) -> None:
    def stop() -> reload_pb2.Fleet:
        scaled.processes.up = False
        raise Unavailable("nobody is there")

    monkeypatch.setattr(scaled.fleet, "get", stop)
    with pytest.raises(NotUp, match="was stopped while"):
        scaled.to(3)
    assert scaled.mesh.record["settings"]["replicas"] == 2


def test_only_one_change_runs_at_a_time(scaled: ScaledMesh) -> None:
    with (scaled.mesh.home.run / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CliError, match="starting or being scaled"):
            scaled.to(3)
    assert scaled.holds(2)


def test_the_number_stays_until_the_setting_changes(scaled: ScaledMesh) -> None:
    scaled.to(4)
    home = scaled.mesh.home.root
    assert LocalMesh(MeshSettings(home=home)).next_settings.replicas == 4
    assert LocalMesh(MeshSettings(home=home, replicas=3)).next_settings.replicas == 3


@pytest.mark.parametrize("count", ["0", "17"])
def test_a_number_out_of_range_is_refused_with_the_limits(count: str) -> None:
    result = CliRunner().invoke(app, ["scale", count])
    assert isinstance(result.exception, BadInput)
    assert f"is 1 to 16, not {count}" in str(result.exception)


def test_without_a_mesh_scale_says_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["scale", "3"])
    assert isinstance(result.exception, NotUp)
    assert "mesh up" in str(result.exception)


def test_json_names_what_was_done(scaled: ScaledMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    def scaling(mesh: LocalMesh, _: GetFleet, report: Report) -> Scaling:
        return Scaling(mesh, scaled.fleet.get, report)

    monkeypatch.setattr("mesh_cli.verbs.context.local_mesh", lambda: scaled.mesh)
    monkeypatch.setattr("mesh_cli.local.local_deployment.Scaling", scaling)
    result = CliRunner().invoke(app, ["scale", "3", "--json"])
    assert json.loads(result.stdout) == {
        "replicas": ["replica-1", "replica-2", "replica-3"],
        "added": ["replica-3"],
        "removed": [],
    }
    assert CliRunner().invoke(app, ["scale", "1"]).stdout == (
        "1 replica: removed replica-3, removed replica-2\n"
    )
