"""Sets up the roles of a mesh in containers: `python -m service_kit.database_roles FOLDER`.

FOLDER holds the superuser's password, `postgres_password`, and a password file of libpq for each
role, named `ROLE_pgpass`. The server is `postgres:5432`. MESH_AUDIT_DAYS says for how many days the
audit's rows stay.
"""

import os
import sys
from pathlib import Path
from urllib.parse import quote

from service_kit.database_roles.names import AUDIT_DAYS, LOGIN_ROLES
from service_kit.database_roles.set_up import set_up


def main(folder: Path) -> None:
    """Set up the databases and roles, with the passwords of the folder."""
    superuser_password = quote((folder / "postgres_password").read_text(), safe="")

    def superuser_url(database: str) -> str:
        return f"postgresql://postgres:{superuser_password}@postgres:5432/{database}"

    passwords = {role: _password(folder / f"{role}_pgpass") for role in LOGIN_ROLES}
    set_up(superuser_url, passwords, int(os.environ.get("MESH_AUDIT_DAYS") or AUDIT_DAYS))


def _password(pgpass: Path) -> str:
    # HOST:PORT:DATABASE:ROLE:PASSWORD
    return pgpass.read_text().strip().split(":", 4)[4]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
