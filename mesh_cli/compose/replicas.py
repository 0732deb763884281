"""Adds, removes or replaces inference containers while traffic goes on."""

import os
from collections.abc import Callable, Sequence
from functools import partial

from mesh.v1 import reload_pb2
from mesh_cli.compose.containers import (
    INFERENCE,
    Container,
    image_id,
    inference_containers,
    inference_service,
    names,
)
from mesh_cli.compose.engine import Engine
from mesh_cli.compose.env_file import EnvFile
from mesh_cli.deployments import fleet_wait
from mesh_cli.deployments.deployment import Report, Scaled
from mesh_cli.deployments.fleet_wait import GetFleet
from mesh_cli.errors import CliError

REPLICAS_VARIABLE = "MESH_REPLICAS"
# Seconds until the control plane stops listing a stopped container: Docker's name server drops it
# at once, and the control plane asks that server every few seconds.
GONE_TIMEOUT_S = 60.0


class Replicas:
    """The inference containers of a mesh that is up.

    Each call starts from the containers that exist, so it finishes a change that was interrupted.
    starting_at_once: replicas to start at the same time; 0: half as many as cores.
    """

    def __init__(
        self,
        engine: Engine,
        get_fleet: GetFleet,
        is_up: Callable[[], bool],
        report: Report,
        starting_at_once: int = 0,
    ) -> None:
        self._engine = engine
        self._await = partial(fleet_wait.await_fleet, get_fleet, is_up=is_up)
        self._report = report
        self._steps = 0
        # A replica that starts uses a core for some seconds; half of the cores stay for traffic.
        self._starting_at_once = starting_at_once or max(1, len(os.sched_getaffinity(0)) // 2)

    def scale(self, count: int) -> Scaled:
        """Add containers, or stop the newest, until there are `count`; `up` keeps the number.

        Raises CliError when a new container gets no traffic in time, and then stops all new ones;
        also when the control plane still lists a container that has stopped.
        """
        with self._engine.lock():
            running = self._tidied()
            stay, surplus = running[:count], running[count:][::-1]
            self._steps = abs(count - len(running))
            added = self._grow(running, count)
            EnvFile(self._engine.folder / ".env").set(REPLICAS_VARIABLE, str(count))
            self._retire(surplus)
            return Scaled(names([*stay, *added]), names(added), names(surplus))

    def roll(self) -> Scaled:
        """Start a container of the current image for each replica, then stop the old containers.

        Raises CliError as `scale` does. Compose by itself would stop all old ones at once.
        """
        with self._engine.lock():
            service = inference_service(self._engine)
            running = self._tidied()
            fresh = self._already_rolled(running, service.replicas, service.image)
            old = [container for container in running if container not in fresh]
            missing = service.replicas - len(fresh)
            self._steps = missing + len(old)
            added = self._grow(running, len(running) + missing)
            self._retire(old)
            return Scaled(names([*fresh, *added]), names(added), names(old))

    def _tidied(self) -> list[Container]:
        """Containers that run, the oldest first. Removes others, which Compose would restart."""
        containers = inference_containers(self._engine)
        for container in containers:
            if not container.present:
                self._remove(container)
        return [container for container in containers if container.present]

    def _already_rolled(
        self, running: Sequence[Container], count: int, image: str
    ) -> list[Container]:
        """New containers that an interrupted roll left beside old ones."""
        if len(running) <= count:
            return []
        current = image_id(self._engine, image)
        return [container for container in running[-count:] if container.image_id == current]

    def _grow(self, before: Sequence[Container], count: int) -> list[Container]:
        """Add containers until there are `count`, all with traffic; returns the new ones."""
        there = list(before)
        try:
            while len(there) < count:
                wanted = min(count, len(there) + self._starting_at_once)
                self._engine.compose(
                    *("up", "--detach", "--no-deps", "--no-recreate"),
                    *("--scale", f"{INFERENCE}={wanted}", INFERENCE),
                )
                new = self._new(there)
                if len(new) != wanted - len(there):
                    raise CliError(
                        f"Compose started {len(new)} replicas, not {wanted - len(there)}"
                    )
                self._await_eligible(new)
                there += new
        except BaseException:
            for container in self._new(before):
                self._stop(container)
            raise
        return there[len(before) :]

    def _new(self, before: Sequence[Container]) -> list[Container]:
        ids = {container.id for container in before}
        return [new for new in inference_containers(self._engine) if new.id not in ids]

    def _retire(self, containers: Sequence[Container]) -> None:
        """Stop containers one after the other; each first answers the requests that it has."""
        for container in containers:
            self._stop(container)
            self._report(f"{container.name} left", self._steps)
        if containers:
            self._await_gone(containers)

    def _stop(self, container: Container) -> None:
        # `docker stop` waits for the grace period that compose.yaml gives the container.
        self._engine.docker("stop", container.id)
        self._remove(container)

    def _remove(self, container: Container) -> None:
        self._engine.docker("rm", "--force", "--volumes", container.id)

    def _await_eligible(self, containers: Sequence[Container]) -> None:
        waiting = {address: c.name for c in containers for address in c.addresses}
        left = set(names(containers))

        def missing(fleet: reload_pb2.Fleet) -> str:
            details = dict.fromkeys(left, "is not listed by the control plane")
            for replica in fleet.replicas:
                name = waiting.get(_host(replica))
                if name in left and replica.eligible:
                    left.remove(name)
                    del details[name]
                    self._report(f"{name} joined", self._steps)
                elif name in left:
                    details[name] = replica.detail
            return "; ".join(
                f"{name} {detail}, see `mesh --context compose logs {name}`"
                for name, detail in details.items()
            )

        failure = "nothing was changed: no traffic for the new replicas"
        self._await(missing, fleet_wait.ELIGIBLE_TIMEOUT_S, failure)

    def _await_gone(self, containers: Sequence[Container]) -> None:
        leaving = {address: c.name for c in containers for address in c.addresses}

        def missing(fleet: reload_pb2.Fleet) -> str:
            left = (leaving.get(_host(replica), "") for replica in fleet.replicas)
            return ", ".join(sorted(filter(None, left)))

        failure = "the control plane still lists replicas that have stopped"
        self._await(missing, GONE_TIMEOUT_S, failure)


def _host(replica: reload_pb2.Replica) -> str:
    return replica.address.rpartition(":")[0].strip("[]")
