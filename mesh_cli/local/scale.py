"""Changes the number of inference replicas of a local mesh while traffic goes on."""

import os
from collections.abc import Sequence

from mesh.v1 import reload_pb2
from mesh_cli.deployments import fleet_wait
from mesh_cli.deployments.deployment import Report, Scaled
from mesh_cli.deployments.fleet_wait import GetFleet
from mesh_cli.errors import CliError
from mesh_cli.local.local_mesh import LocalMesh
from mesh_cli.local.ports import REPLICA, internal_ports, replica_names, service_ports
from mesh_cli.local.process_manager import STOPPED, STOPPING

MAX_REPLICAS = 16
# Longer than the 60 s after which supervisord kills a replica that does not stop.
STOP_TIMEOUT_S = 70.0


class Scaling:
    """Brings the replicas of a running mesh to another number.

    A call starts from the processes that exist, so it finishes a change that was interrupted.
    starting_at_once: replicas to start at the same time; 0: half as many as cores.
    """

    def __init__(
        self, mesh: LocalMesh, get_fleet: GetFleet, report: Report, starting_at_once: int = 0
    ) -> None:
        self._mesh = mesh
        self._get_fleet = get_fleet
        self._report = report
        # A replica that starts uses a core for some seconds; half of the cores stay for traffic.
        self._starting_at_once = starting_at_once or max(1, len(os.sched_getaffinity(0)) // 2)

    def to(self, count: int) -> Scaled:
        """Add or remove the newest replicas until there are `count`, at least 1.

        Raises NotUp. Raises CliError when a new replica gets no traffic in time, and then stops
        all new ones; also when a replica that is to leave keeps its traffic or does not stop.
        """
        mesh = self._mesh
        with mesh.lock():
            mesh.reread_record()
            wanted = replica_names(count)
            running = self._running()
            missing = [name for name in wanted if name not in running]
            surplus = [name for name in running if name not in wanted]
            self._remove(surplus, [name for name in running if name in wanted])
            self._add(missing, wanted)
            return Scaled(wanted, missing, surplus)

    def _running(self) -> list[str]:
        """Names of the replicas whose processes run, the newest first."""
        processes = self._mesh.processes
        # An interrupted `mesh scale` may have left replicas that are stopping.
        stopping = [n for n, info in processes.programs().items() if info["statename"] == STOPPING]
        processes.stop_programs(stopping, STOP_TIMEOUT_S)
        running = (
            name
            for name, info in processes.programs().items()
            if name.startswith(REPLICA) and info["statename"] not in STOPPED
        )
        return sorted(running, key=lambda name: int(name.removeprefix(REPLICA)), reverse=True)

    def _add(self, names: Sequence[str], wanted: Sequence[str]) -> None:
        mesh = self._mesh
        before = [name for name in wanted if name not in names]
        ports = mesh.record["ports"]
        new = [name for name in service_ports(names) if name not in ports]
        taken = (*ports.values(), *mesh.settings.published_ports)
        mesh.resize(len(wanted), {**ports, **internal_ports(new, {}, taken)})
        mesh.processes.update(part.program for part in mesh.parts)
        try:
            for begin in range(0, len(names), self._starting_at_once):
                end = begin + self._starting_at_once
                for name in names[begin:end]:
                    mesh.processes.start_program(name)
                mesh.show_replicas([*before, *names[:end]])
                self._await_eligible(names[begin:end], len(names))
        except BaseException:
            self._stop(names, before)
            raise
        mesh.show_replicas(wanted)

    def _remove(self, names: Sequence[str], stay: Sequence[str]) -> None:
        if not names:
            return
        # The processes stop when they get no more traffic.
        self._mesh.show_replicas(stay)
        try:
            self._await_gone(names)
        except BaseException:
            self._mesh.show_replicas([*stay, *names])
            raise
        self._stop(names, stay)
        for name in names:
            self._report(f"{name} left", len(names))

    def _stop(self, names: Sequence[str], stay: Sequence[str]) -> None:
        mesh = self._mesh
        mesh.show_replicas(stay)
        if mesh.is_up():
            left = mesh.processes.stop_programs(names, STOP_TIMEOUT_S)
            if left:
                raise CliError(f"{', '.join(left)} did not stop in {STOP_TIMEOUT_S:.0f} s")
        freed = service_ports(names)
        kept = {name: port for name, port in mesh.record["ports"].items() if name not in freed}
        mesh.resize(len(stay), kept)
        if mesh.is_up():
            mesh.processes.update(part.program for part in mesh.parts)

    def _await_eligible(self, names: Sequence[str], total: int) -> None:
        waiting = self._addresses(names)

        def missing(fleet: reload_pb2.Fleet) -> str:
            details = dict.fromkeys(waiting, "is not listed by the control plane")
            for replica in fleet.replicas:
                if replica.address in waiting and replica.eligible:
                    del details[replica.address]
                    self._report(f"{waiting.pop(replica.address)} joined", total)
                elif replica.address in waiting:
                    details[replica.address] = replica.detail
            return "; ".join(
                f"{waiting[address]} {detail}, see {self._mesh.home.logs / waiting[address]}.log"
                for address, detail in details.items()
            )

        self._await(missing, fleet_wait.ELIGIBLE_TIMEOUT_S, "no traffic for the new replicas")

    def _await_gone(self, names: Sequence[str]) -> None:
        leaving = self._addresses(names)

        def missing(fleet: reload_pb2.Fleet) -> str:
            left = (leaving[r.address] for r in fleet.replicas if r.address in leaving)
            return ", ".join(sorted(left))

        failure = "the control plane still sends traffic to old replicas"
        self._await(missing, fleet_wait.GONE_TIMEOUT_S, failure)

    def _await(self, missing: fleet_wait.Missing, timeout_s: float, failure: str) -> None:
        """Wait for the fleet; callers undo their change when this raises."""
        fleet_wait.await_fleet(
            self._get_fleet, missing, timeout_s, f"nothing was changed: {failure}", self._mesh.is_up
        )

    def _addresses(self, names: Sequence[str]) -> dict[str, str]:
        ports = self._mesh.record["ports"]
        return {f"127.0.0.1:{ports[name]}": name for name in names}
