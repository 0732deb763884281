"""`mesh scale` and `mesh roll` in containers: what starts and stops, in which order."""

import fcntl
import os
from pathlib import Path

import pytest

from mesh.errors import Unavailable
from mesh.v1 import reload_pb2
from mesh_cli.compose import replicas as compose_replicas
from mesh_cli.compose.replicas import Replicas
from mesh_cli.deployments import fleet_wait
from mesh_cli.deployments.deployment import Scaled
from mesh_cli.deployments.fleet_wait import GetFleet
from mesh_cli.errors import CliError, NotUp
from tests.unit.cli.docker_twin import TwinDocker


class Rig:
    """Scales and rolls a twin that is up."""

    def __init__(self, docker: TwinDocker) -> None:
        self.docker = docker
        self.get_fleet: GetFleet = docker.fleet
        self.up = True
        self.reports: list[tuple[str, int]] = []

    def replicas(self, starting_at_once: int = 8) -> Replicas:
        return Replicas(
            self.docker.engine,
            lambda: self.get_fleet(),
            lambda: self.up,
            lambda step, total: self.reports.append((step, total)),
            starting_at_once,
        )

    def changes(self) -> list[str]:
        """The commands that changed something."""
        return [
            command
            for command in self.docker.commands
            if command.startswith(("compose up", "stop", "rm"))
        ]

    def kept_number(self) -> str:
        return (self.docker.folder / ".env").read_text()


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(fleet_wait, "POLL_S", 0)
    monkeypatch.setattr(fleet_wait, "ELIGIBLE_TIMEOUT_S", 0)
    monkeypatch.setattr(compose_replicas, "GONE_TIMEOUT_S", 0)
    return Rig(TwinDocker(tmp_path))


def test_replicas_join_and_the_newest_leave(rig: Rig) -> None:
    all_four = [f"inference-{number}" for number in (1, 2, 3, 4)]
    assert rig.replicas().scale(4) == Scaled(all_four, all_four[2:], [])
    assert [name for name, _ in rig.docker.summary()] == all_four
    assert rig.kept_number() == "MESH_REPLICAS=4\n"
    removed = ["inference-4", "inference-3", "inference-2"]
    assert rig.replicas().scale(1) == Scaled(["inference-1"], [], removed)
    assert rig.docker.summary() == [("inference-1", "old")]
    assert rig.kept_number() == "MESH_REPLICAS=1\n"
    assert rig.reports[:2] == [("inference-3 joined", 2), ("inference-4 joined", 2)]
    assert rig.reports[2:] == [(f"{name} left", 3) for name in removed]


def test_the_same_number_changes_nothing(rig: Rig) -> None:
    names = ["inference-1", "inference-2"]
    assert rig.replicas().scale(2) == Scaled(names, [], [])
    assert rig.changes() == []


@pytest.mark.parametrize(("at_once", "waves"), [(1, 3), (2, 2), (8, 1)])
def test_replicas_start_a_few_at_a_time(rig: Rig, at_once: int, waves: int) -> None:
    rig.replicas(at_once).scale(5)
    assert len(rig.changes()) == waves
    assert len(rig.docker.replicas) == 5


def test_a_replica_that_gets_no_traffic_is_taken_back(rig: Rig) -> None:
    rig.docker.broken = {"inference-4"}
    with pytest.raises(CliError, match=r"inference-4 is starting, see .*compose logs inference-4"):
        rig.replicas().scale(4)
    assert rig.docker.summary() == [("inference-1", "old"), ("inference-2", "old")]
    assert rig.kept_number() == "MESH_REPLICAS=2\n"
    rig.docker.broken = set()
    rig.replicas().scale(4)
    assert len(rig.docker.replicas) == 4


def test_a_stopped_replica_that_is_still_listed_is_an_error_that_names_it(rig: Rig) -> None:
    rig.docker.listed_for_ever = {rig.docker.replicas[1].address}
    with pytest.raises(CliError, match=r"still lists replicas that have stopped .*inference-2"):
        rig.replicas().scale(1)


def test_stopped_leftovers_are_not_started_again(rig: Rig) -> None:
    rig.docker.replicas[0].state = "exited"
    scaled = rig.replicas().scale(2)
    assert (scaled.added, scaled.removed) == (["inference-1"], [])
    assert rig.changes()[0].startswith("rm --force")
    assert rig.docker.made == 3


def test_roll_starts_every_new_one_before_it_stops_the_first_old_one(rig: Rig) -> None:
    rig.docker.image = "new"
    old = [container.id for container in rig.docker.replicas]
    assert rig.replicas().roll() == Scaled(
        ["inference-3", "inference-4"],
        ["inference-3", "inference-4"],
        ["inference-1", "inference-2"],
    )
    assert rig.docker.summary() == [("inference-3", "new"), ("inference-4", "new")]
    assert rig.changes() == [
        "compose up --detach --no-deps --no-recreate --scale inference=4 inference",
        *(f"{verb} {name}" for name in old for verb in ("stop", "rm --force --volumes")),
    ]
    assert rig.reports == [
        ("inference-3 joined", 4),
        ("inference-4 joined", 4),
        ("inference-1 left", 4),
        ("inference-2 left", 4),
    ]
    assert rig.kept_number() == "MESH_REPLICAS=2\n"


def test_roll_stops_nothing_before_the_new_ones_have_traffic(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.docker.image = "new"
    looks: list[int] = []

    def get_fleet() -> reload_pb2.Fleet:
        looks.append(len(rig.docker.replicas))
        fleet = rig.docker.fleet()
        if len(looks) < 3:
            for replica in fleet.replicas:
                replica.eligible = False
        return fleet

    rig.get_fleet = get_fleet
    monkeypatch.setattr(fleet_wait, "ELIGIBLE_TIMEOUT_S", 10)
    rig.replicas().roll()
    assert looks == [4, 4, 4, 2]


def test_a_new_image_without_traffic_leaves_the_old_replicas(rig: Rig) -> None:
    rig.docker.image = "new"
    rig.docker.broken = {"inference-3"}
    with pytest.raises(CliError, match="nothing was changed: no traffic"):
        rig.replicas().roll()
    assert rig.docker.summary() == [("inference-1", "old"), ("inference-2", "old")]


def test_ctrl_c_takes_new_replicas_back(rig: Rig) -> None:
    def interrupt() -> reload_pb2.Fleet:
        raise KeyboardInterrupt

    rig.get_fleet = interrupt
    with pytest.raises(KeyboardInterrupt):
        rig.replicas().roll()
    assert rig.docker.summary() == [("inference-1", "old"), ("inference-2", "old")]


@pytest.mark.parametrize(("new", "stopped"), [(0, 0), (1, 0), (2, 0), (2, 1)])
def test_a_roll_that_was_killed_is_finished_by_the_next(rig: Rig, new: int, stopped: int) -> None:
    rig.docker.image = "new"
    rig.docker.grow_to(2 + new)
    for container in rig.docker.replicas[:stopped]:
        container.state = "exited"
    rig.replicas().roll()
    assert [image for _, image in rig.docker.summary()] == ["new", "new"]
    assert rig.docker.max_replicas == 4


def test_a_roll_that_was_killed_does_not_start_over(rig: Rig) -> None:
    rig.docker.image = "new"
    rig.docker.grow_to(4)
    assert rig.replicas().roll().added == []
    assert rig.docker.summary() == [("inference-3", "new"), ("inference-4", "new")]


def test_roll_replaces_replicas_of_the_current_image_too(rig: Rig) -> None:
    before = {container.id for container in rig.docker.replicas}
    rig.replicas().roll()
    assert not before & {container.id for container in rig.docker.replicas}
    assert len(rig.docker.replicas) == 2


def test_a_control_plane_that_is_away_for_a_moment_is_waited_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = [Unavailable("the control plane is away")] * 2

    def get_fleet() -> reload_pb2.Fleet:
        if away:
            raise away.pop()
        return rig.docker.fleet()

    rig.get_fleet = get_fleet
    monkeypatch.setattr(fleet_wait, "ELIGIBLE_TIMEOUT_S", 10)
    rig.replicas().scale(3)
    assert len(rig.docker.replicas) == 3


def test_a_mesh_that_is_stopped_meanwhile_is_not_up(rig: Rig) -> None:
    def stop() -> reload_pb2.Fleet:
        rig.up = False
        raise Unavailable("nobody is there")

    rig.get_fleet = stop
    with pytest.raises(NotUp, match="was stopped while"):
        rig.replicas().scale(3)


def test_only_one_change_runs_at_a_time(rig: Rig) -> None:
    descriptor = os.open(rig.docker.folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(CliError, match="being scaled or rolled"):
            rig.replicas().roll()
    finally:
        os.close(descriptor)
    assert rig.changes() == []


def test_too_few_started_replicas_are_an_error(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.docker, "grow_to", lambda count: None)
    with pytest.raises(CliError, match="started 0 replicas, not 1"):
        rig.replicas().scale(3)
