"""The parts of a local mesh: each process with its command, settings and health check."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh_cli.local import airflow, health, postgres
from mesh_cli.local.certificates import certificates_of, renewal
from mesh_cli.local.home import MeshHome, MeshSettings
from mesh_cli.local.local_secrets import AIRFLOW_USER, SIGNING_KEYS, LocalSecrets
from mesh_cli.local.ports import on_loopback, replica_names
from mesh_cli.local.supervisord_config import Program
from mesh_cli.tokens import own_tokens
from service_kit.database_roles.names import CONTROL_PLANE, MLFLOW, OPERATOR, TRAINING, TRIGGER
from service_kit.retention import daily_cleaning

MODEL_KEY, CONTROL_PLANE_KEY = SIGNING_KEYS
# Measured on two cores: with a worker for each core, Envoy and the replicas took 30 % more CPU per
# request, because they woke each other more often, for fewer messages. One worker serves thousands
# of requests a second.
CORES_PER_ENVOY_WORKER = 4
_BIN = Path(sys.executable).parent
# Whether predictions need no token; by default where only this machine can reach the mesh.
OPEN_PREDICT = "CONTROL_PLANE_OPEN_PREDICT"

# Prefix of the environment variables of each service's settings.
_PREFIXES = {
    "inference_svc": "INFERENCE",
    "training_svc": "TRAINING",
    "trigger_svc": "TRIGGER",
    "control_plane": "CONTROL",
}


@dataclass(frozen=True)
class Part:
    """One process of the mesh with its URL and its health check."""

    program: Program
    url: str
    check: health.Check

    @property
    def name(self) -> str:
        """Name of the part and of its process."""
        return self.program.name


def envoy_workers() -> int:
    """Worker threads for an Envoy that shares this process's cores with replicas."""
    return max(1, len(os.sched_getaffinity(0)) // CORES_PER_ENVOY_WORKER)


class Parts:
    """Builds every part from the settings and the ports."""

    def __init__(
        self,
        home: MeshHome,
        settings: MeshSettings,
        secrets: LocalSecrets,
        ports: Mapping[str, int],
    ) -> None:
        self._home = home
        self._settings = settings
        self._secrets = secrets
        self._ports = ports
        self._mlflow_url = f"http://127.0.0.1:{settings.mlflow_port}"

    def all(self) -> list[Part]:
        """Every part, in the order in which they are shown."""
        return [
            self.postgres(),
            self._mlflow(),
            *(self._replica(name) for name in self.replica_names()),
            self._service("training", "training_svc", self._training()),
            self._service("trigger", "trigger_svc", self._trigger()),
            self._service("control-plane", "control_plane", self._control_plane()),
            self._envoy(),
            *self._airflow(),
            *self._cleaning(),
            *self._certificates(),
        ]

    def replica_names(self) -> list[str]:
        """Names of the inference replicas."""
        return replica_names(self._settings.replicas)

    def render_command(self) -> list[str]:
        """The command that writes Envoy's configuration file."""
        return [
            *(sys.executable, "-m", "control_plane.render", "dynamic"),
            f"--control-plane={self._address('control-plane')}",
            f"--admin-port={self._settings.envoy_admin_port}",
            f"--out={self._home.envoy_config}",
        ]

    def postgres(self) -> Part:
        """The database, which the other parts need first."""
        port = self._ports["postgres"]
        password = self._secrets.database_password(OPERATOR)
        url = postgres.url(port, OPERATOR, password=password)
        command = postgres.server_command(self._home, port)
        program = Program("postgres", command, {"TZ": "UTC"}, stop_signal="INT", signal_group=False)
        return Part(program, url, health.postgres(url))

    def _mlflow(self) -> Part:
        port = self._settings.mlflow_port
        command = [
            *(sys.executable, "-m", "service_kit.mlflow_gate"),
            *("--host", self._settings.host, "--port", str(port)),
            *("--backend-store-uri", self._mlflow_store()),
            *("--artifacts-destination", str(self._home.artifacts)),
            *("--token-keys", str(self._secrets.tokens.keys.public_file)),
            *("--revoked-tokens", str(self._revoked_tokens())),
            *("--open-reads", self._open_predict()),
            *("--host-names", os.environ.get("MESH_MLFLOW_HOSTS", "")),
        ]
        environment = {"MLFLOW_DISABLE_TELEMETRY": "true", **self._password_of(MLFLOW)}
        program = Program("mlflow", command, environment)
        return Part(program, self._mlflow_url, health.http(f"{self._mlflow_url}/health"))

    def _replica(self, name: str) -> Part:
        environment = {
            "INFERENCE_REPLICA_ID": name,
            "INFERENCE_HTTP_PORT": str(self._ports[f"{name}-http"]),
            "INFERENCE_UNARY_PORT": str(self._ports[f"{name}-unary"]),
            "INFERENCE_MLFLOW_URL": self._mlflow_url,
            "INFERENCE_MLFLOW_TOKEN_FILE": self._token(own_tokens.INFERENCE_FILE),
            "INFERENCE_STATE_DIR": str(self._folder(name)),
            "INFERENCE_MODEL_KEYS": str(self._secrets.trusted_keys(MODEL_KEY)),
            "INFERENCE_RECORD_KEYS": str(self._secrets.trusted_keys(CONTROL_PLANE_KEY)),
        }
        return self._service(name, "inference_svc", environment)

    def _training(self) -> dict[str, str]:
        return {
            "TRAINING_DATABASE_URL": self._database_url(TRAINING),
            **self._password_of(TRAINING),
            "TRAINING_MLFLOW_URL": self._mlflow_url,
            "TRAINING_MLFLOW_TOKEN_FILE": self._token(own_tokens.TRAINING_FILE),
            "TRAINING_STATE_DIR": str(self._folder("training")),
            "TRAINING_DEVICE": self._settings.device,
            "TRAINING_SIGNING_KEY": str(self._secrets.signing_key(MODEL_KEY)),
            "TRAINING_MODEL_KEYS": str(self._secrets.trusted_keys(MODEL_KEY)),
        }

    def _trigger(self) -> dict[str, str]:
        self._secrets.airflow_password()
        return {
            "TRIGGER_DATABASE_URL": self._database_url(TRIGGER),
            **self._password_of(TRIGGER),
            "TRIGGER_MLFLOW_URL": self._mlflow_url,
            "TRIGGER_MLFLOW_TOKEN_FILE": self._token(own_tokens.TRIGGER_FILE),
            "TRIGGER_AIRFLOW_URL": f"http://127.0.0.1:{self._settings.airflow_port}",
            "TRIGGER_AIRFLOW_USER": AIRFLOW_USER,
            "TRIGGER_AIRFLOW_PASSWORD_FILE": str(self._secrets.airflow_password_file),
        }

    def _control_plane(self) -> dict[str, str]:
        return {
            "CONTROL_DATABASE_URL": self._database_url(CONTROL_PLANE),
            **self._password_of(CONTROL_PLANE),
            "CONTROL_MLFLOW_URL": self._mlflow_url,
            "CONTROL_MLFLOW_TOKEN_FILE": self._token(own_tokens.CONTROL_PLANE_FILE),
            "CONTROL_TRAINING": self._address("training"),
            "CONTROL_TRIGGER": self._address("trigger"),
            "CONTROL_ENVOY_HOST": self._settings.host,
            "CONTROL_ENVOY_PORT": str(self._settings.port),
            "CONTROL_ENVOY_CERTIFICATE": self._certificate_files(),
            "CONTROL_REPLICAS_FILE": str(self._home.replicas_file),
            "CONTROL_PLANE_TOKEN_KEYS": str(self._secrets.tokens.keys.public_file),
            "CONTROL_PLANE_REVOKED_TOKENS_FILE": str(self._revoked_tokens()),
            OPEN_PREDICT: self._open_predict(),
            "CONTROL_SIGNING_KEY": str(self._secrets.signing_key(CONTROL_PLANE_KEY)),
            "CONTROL_RECORD_KEYS": str(self._secrets.trusted_keys(CONTROL_PLANE_KEY)),
        }

    def _service(self, name: str, package: str, own: Mapping[str, str]) -> Part:
        prefix = _PREFIXES[package]
        environment = {
            f"{prefix}_PORT": str(self._ports[name]),
            f"{prefix}_METRICS_PORT": str(self._ports[f"{name}-metrics"]),
            **own,
        }
        command = [sys.executable, "-m", f"{package}.main"]
        return Part(
            Program(name, command, environment, stop_wait_s=60),
            f"http://{self._address(name)}",
            health.grpc_health(self._address(name)),
        )

    def _envoy(self) -> Part:
        admin = f"http://127.0.0.1:{self._settings.envoy_admin_port}"
        command = [
            *(str(_BIN / "envoy"), "-c", str(self._home.envoy_config)),
            # With hot restart, two meshes on one machine would use the same shared memory.
            *("--disable-hot-restart", "--log-level", "warning"),
            *("--concurrency", str(self._settings.envoy_workers or envoy_workers())),
            *("--drain-time-s", "5", "--parent-shutdown-time-s", "6"),
        ]
        scheme = "https" if self._settings.tls else "http"
        url = f"{scheme}://127.0.0.1:{self._settings.port}"
        return Part(Program("envoy", command), url, health.http(f"{admin}/ready"))

    def _certificate_files(self) -> str:
        if not self._settings.tls:
            return ""
        return certificates_of(self._home, self._settings).naming_files

    def _certificates(self) -> list[Part]:
        """What renews the certificates, when clients come with TLS."""
        if not self._settings.tls:
            return []
        return [Part(renewal(self._home, self._settings), "", health.running)]

    def _cleaning(self) -> list[Part]:
        """What removes old things from Airflow and MLflow, once a day."""
        begin = [sys.executable, daily_cleaning.__file__]
        begin += ["--days", str(self._settings.retention_days), "--command"]
        airflow_command = [
            *(*begin, str(airflow.binary(self._settings)), "airflow"),
            *("--logs", str(airflow.log_folder(self._home))),
        ]
        mlflow_command = [
            *(*begin, str(_BIN / "mlflow"), "mlflow"),
            *("--url", self._mlflow_url, "--database", self._mlflow_store()),
            *("--token-file", self._token(own_tokens.CLEANING_FILE)),
        ]
        programs = (
            Program(
                "airflow-cleaning",
                airflow_command,
                airflow.environment(self._home, self._settings, self._secrets),
            ),
            Program("mlflow-cleaning", mlflow_command, self._password_of(MLFLOW)),
        )
        return [Part(program, "", health.running) for program in programs]

    def _token(self, name: str) -> str:
        return str(self._home.secrets / name)

    def _revoked_tokens(self) -> Path:
        return self._folder("control-plane") / "revoked-tokens.json"

    def _open_predict(self) -> str:
        open_predict = os.environ.get(OPEN_PREDICT) or str(on_loopback(self._settings.host))
        return open_predict.lower()

    def _mlflow_store(self) -> str:
        return postgres.sqlalchemy_url(self._ports["postgres"], MLFLOW, "mlflow")

    def _database_url(self, role: str) -> str:
        return postgres.url(self._ports["postgres"], role)

    def _password_of(self, role: str) -> dict[str, str]:
        return {"PGPASSFILE": str(self._secrets.pgpass_file(role))}

    def _airflow(self) -> list[Part]:
        url = f"http://127.0.0.1:{self._settings.airflow_port}"
        environment = airflow.environment(self._home, self._settings, self._secrets)
        if "SLACK_URL" in os.environ:
            environment = environment | {"SLACK_URL": os.environ["SLACK_URL"]}
        return [
            Part(
                Program(
                    f"airflow-{name}",
                    [str(airflow.binary(self._settings)), name, *airflow.ARGUMENTS.get(name, ())],
                    environment,
                    stop_wait_s=30,
                ),
                url,
                health.airflow(url, name),
            )
            for name in airflow.PARTS
        ]

    def _address(self, name: str) -> str:
        return f"127.0.0.1:{self._ports[name]}"

    def _folder(self, name: str) -> Path:
        folder = self._home.root / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder
