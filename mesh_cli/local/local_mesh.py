"""Starts and stops the processes of a local mesh, and keeps the record of them."""

import fcntl
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from mesh_cli.certificates.choice import TlsChoice
from mesh_cli.deployments.deployment import PartStatus
from mesh_cli.errors import CliError
from mesh_cli.local import airflow, postgres
from mesh_cli.local.certificates import certificates_of, settings_of_tls
from mesh_cli.local.home import MeshHome, MeshSettings, write_private
from mesh_cli.local.local_secrets import LocalSecrets
from mesh_cli.local.parts import Part, Parts
from mesh_cli.local.ports import internal_names, internal_ports, replica_names, require_free
from mesh_cli.local.process_manager import RUN_ID_VARIABLE, ProcessManager, stop_leftovers
from mesh_cli.terminal.interrupts import uninterrupted
from service_kit.database_roles.names import OPERATOR

UP_TIMEOUT_S = 240.0
POLL_S = 0.25

# Called with the name of each part that has become healthy.
Report = Callable[[str], None]


class LocalMesh:
    """The processes and files of the mesh in MESH_HOME."""

    def __init__(self, settings: MeshSettings) -> None:
        self.home = MeshHome(settings.home)
        self.processes = ProcessManager(self.home)
        self._replicas_setting = settings.replicas
        self.next_settings = self._with_what_stays(settings)
        """The settings for the next `up`."""

    @property
    def steps(self) -> int:
        """Reports of `up`: one for each part, and one for Airflow's database."""
        settings = self.next_settings
        return 9 + len(airflow.PARTS) + settings.replicas + settings.tls

    @cached_property
    def secrets(self) -> LocalSecrets:
        """Its passwords and keys."""
        return LocalSecrets(self.home)

    @cached_property
    def record(self) -> dict[str, Any]:
        """The record that `mesh up` wrote. Raises NotUp."""
        return self.home.record()

    @cached_property
    def settings(self) -> MeshSettings:
        """The settings with which the mesh was started. Raises NotUp."""
        return MeshSettings.model_validate(self.record["settings"])

    @cached_property
    def parts(self) -> list[Part]:
        """Its parts. Raises NotUp."""
        return Parts(self.home, self.settings, self.secrets, self.record["ports"]).all()

    @property
    def address(self) -> str:
        """Address of Envoy: host:port, with https:// before it if it has TLS. Raises NotUp."""
        return f"{'https://' if self.settings.tls else ''}127.0.0.1:{self.settings.port}"

    @property
    def ca(self) -> Path | None:
        """The file that clients on this machine trust; None without TLS. Raises NotUp."""
        return certificates_of(self.home, self.settings).ca if self.settings.tls else None

    @property
    def database_url(self) -> str:
        """URL of the training database for the operator, password included. Raises NotUp."""
        return postgres.url(
            self.record["ports"]["postgres"],
            OPERATOR,
            password=self.secrets.database_password(OPERATOR),
        )

    def choose_tls(self, choice: TlsChoice) -> None:
        """Start with TLS or without from now on, as a choice says. Raises CliError."""
        said = {name: value for name, value in asdict(choice).items() if value is not None}
        if "on" in said:
            said["tls"] = said.pop("on")
        self.next_settings = self.next_settings.model_copy(update=said)

    def is_up(self) -> bool:
        """Whether its supervisord runs."""
        return self.processes.pid() is not None

    def up(self, report: Report) -> None:
        """Start every part and return when all are healthy.

        Raises CliError when it is up already, a port is taken, a folder is not writable, or a
        part does not become healthy in time; then everything is stopped again.
        """
        airflow.binary(self.next_settings)
        self.home.make_folders()
        with self.lock():
            if self.is_up():
                raise CliError(
                    f"the mesh in {self.home.root} is already up at {self.address}: "
                    "`mesh status` shows it, `mesh down` stops it"
                )
            self._clear_leftovers()
            self._write_record()
            try:
                self._start(report)
            except BaseException:
                with uninterrupted():
                    self.down()
                raise

    def down(self) -> None:
        """Stop every part and wait until no process is left. State stays."""
        self.processes.stop(last="postgres")
        self._clear_leftovers()

    def statuses(self) -> list[PartStatus]:
        """State of every part; the parts are checked at the same time. Raises NotUp."""
        programs = self.processes.programs() if self.is_up() else {}
        with ThreadPoolExecutor(len(self.parts)) as pool:
            return list(pool.map(lambda part: _status(part, programs.get(part.name)), self.parts))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of changes to the parts. Raises CliError when it is taken."""
        with (self.home.run / "up.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CliError(
                    f"the mesh in {self.home.root} is already starting or being scaled: "
                    "try again when that has ended"
                ) from None
            yield

    def resize(self, replicas: int, ports: Mapping[str, int]) -> None:
        """Record another number of replicas, and the internal ports of all parts."""
        self.home.write_record(
            {
                **self.record,
                "settings": {**self.record["settings"], "replicas": replicas},
                "ports": dict(ports),
            }
        )
        self.reread_record()

    def show_replicas(self, names: Iterable[str]) -> None:
        """Write the file from which the control plane reads the replicas' addresses."""
        ports = self.record["ports"]
        lines = (f"127.0.0.1:{ports[name]}\n" for name in names)
        write_private(self.home.replicas_file, "".join(lines))

    def reread_record(self) -> None:
        """Drop the cached record; it is read again when it is next needed."""
        for name in ("record", "settings", "parts"):
            self.__dict__.pop(name, None)

    def _with_what_stays(self, settings: MeshSettings) -> MeshSettings:
        """Keep the number of replicas of `mesh scale` until MESH_REPLICAS changes, and what
        `mesh up` was told about TLS unless a variable says something else."""
        before = self.home.record() if self.home.record_file.exists() else {}
        stays = settings_of_tls(before.get("settings", {}), settings)
        if before.get("asked_replicas") == settings.replicas:
            stays["replicas"] = before["settings"]["replicas"]
        return settings.model_copy(update=stays)

    def _clear_leftovers(self) -> None:
        if self.home.record_file.exists():
            stop_leftovers(self.home.record()["run_id"])

    def _write_record(self) -> None:
        settings = self.next_settings
        require_free(
            settings.host,
            {
                "Envoy": ("MESH_PORT", settings.port),
                "Envoy's admin page": ("MESH_ENVOY_ADMIN_PORT", settings.envoy_admin_port),
                "MLflow": ("MESH_MLFLOW_PORT", settings.mlflow_port),
                "Airflow": ("MESH_AIRFLOW_PORT", settings.airflow_port),
            },
        )
        before = self.home.record() if self.home.record_file.exists() else {}
        names = internal_names(settings.replicas)
        ports = internal_ports(names, before.get("ports", {}), settings.published_ports)
        self.home.write_record(
            {
                "run_id": uuid.uuid4().hex,
                "settings": settings.model_dump(mode="json"),
                "asked_replicas": self._replicas_setting,
                "ports": ports,
            }
        )
        self.reread_record()
        self.show_replicas(replica_names(settings.replicas))

    def _start(self, report: Report) -> None:
        port = self.record["ports"]["postgres"]
        self.secrets.write_pgpass(port)
        self.secrets.tokens.make()
        if self.settings.tls:
            certificates_of(self.home, self.settings).make()
        postgres.initialise(self.home, self.secrets)
        environment = self._environment()
        programs = [part.program for part in self.parts]
        self.processes.start(programs, environment)
        self.processes.start_program("postgres")
        postgres.set_up_roles(port, self.secrets, self.settings.audit_days)
        self._wait({"postgres"}, report)
        self._render_envoy()
        airflow_parts = [f"airflow-{name}" for name in airflow.PARTS]
        for program in programs:
            if program.name not in ("postgres", *airflow_parts):
                self.processes.start_program(program.name)
        airflow.write_config(self.home, self.settings, self.secrets, port)
        airflow.migrate(self.home, self.settings, self.secrets, environment)
        report("airflow's database")
        for name in airflow_parts:
            self.processes.start_program(name)
        self._wait({part.name for part in self.parts} - {"postgres"}, report)
        airflow.warm_up(self.settings)

    def _environment(self) -> dict[str, str]:
        return {
            RUN_ID_VARIABLE: self.record["run_id"],
            "PYTHONUNBUFFERED": "1",
            # Calls between the parts stay on this machine.
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def _render_envoy(self) -> None:
        command = Parts(
            self.home, self.settings, self.secrets, self.record["ports"]
        ).render_command()
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise CliError(f"Envoy's configuration could not be written: {result.stderr.strip()}")

    def _wait(self, names: set[str], report: Report) -> None:
        waiting = {part.name: part for part in self.parts if part.name in names}
        deadline = time.monotonic() + UP_TIMEOUT_S
        while waiting:
            programs = self.processes.programs()
            for name, part in tuple(waiting.items()):
                status = _status(part, programs.get(name))
                if status.healthy:
                    del waiting[name]
                    report(name)
                elif time.monotonic() > deadline:
                    raise CliError(
                        f"{name} is not healthy after {UP_TIMEOUT_S:.0f} s: {status.detail}; "
                        f"see {self.home.logs / name}.log"
                    )
            time.sleep(POLL_S)


def _status(part: Part, info: dict[str, Any] | None) -> PartStatus:
    pid = (info or {}).get("pid") or None
    if info is None:
        return PartStatus(part.name, False, None, part.url, "is not running")
    if info["statename"] not in ("RUNNING", "STARTING"):
        why = info.get("spawnerr") or info.get("description") or ""
        detail = f"{info['statename'].lower()}: {why}".rstrip(": ")
        return PartStatus(part.name, False, pid, part.url, detail)
    problem = part.check()
    return PartStatus(part.name, not problem, pid, part.url, problem)
