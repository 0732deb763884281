"""Versions of our own tables: which scripts a database still needs, and who may work with it.

A component is one SQL script that makes the tables of version 1, for example sql/promotions.sql.
Later changes are numbered scripts in a folder that is named after it, for example
sql/promotions/0002_epochs.sql. The first line of each says which code can work with the tables
after the change:

    -- compatible_from: 1

means that code which knows only version 1 goes on working, for example beside an added column. A
change that older code cannot live with names its own number. mesh.schema_versions has a row for
each version that a database was brought to.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from psycopg2.extensions import cursor as Cursor

log = logging.getLogger(__name__)

TABLE = """
CREATE SCHEMA IF NOT EXISTS mesh;
CREATE TABLE IF NOT EXISTS mesh.schema_versions (
    component        text NOT NULL,
    version          integer NOT NULL CHECK (version > 0),
    -- The oldest version that code may know for working with these tables.
    compatible_from  integer NOT NULL CHECK (compatible_from BETWEEN 1 AND version),
    applied_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (component, version)
)
"""

# The role that owns the tables of several services, where the database has the roles of the mesh;
# see service_kit/database_roles. Else the role of the session owns them.
_BECOME_SHARED = """
SELECT set_config('role', rolname, true) FROM pg_roles
WHERE rolname = 'mesh_shared' AND pg_has_role(oid, 'MEMBER')
  AND has_schema_privilege(oid, to_regnamespace('mesh'), 'CREATE')
"""

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_FIRST_LINE = re.compile(r"-- compatible_from: (\d+)\n")


@contextmanager
def as_shared_owner(cursor: Cursor) -> Iterator[None]:
    """Let what is made here belong to the role that owns the tables of several services."""
    cursor.execute("SELECT current_setting('role')")
    [(role,)] = cursor.fetchall()
    cursor.execute(_BECOME_SHARED)
    yield
    # An error ends the transaction, and the change of the role with it.
    cursor.execute("SELECT set_config('role', %s, true)", (role,))


class SchemaTooNew(Exception):
    """A later release has changed the tables so that this release cannot work with them."""


class BadMigration(Exception):
    """The migrations of a component are not numbered 2, 3, … or lack their first line."""


@dataclass(frozen=True)
class Version:
    """One version of a component's tables, and the SQL that leads there from the version before."""

    number: int
    compatible_from: int
    sql: str


@dataclass(frozen=True)
class Component:
    """The tables of one script and of its migrations."""

    script: Path

    @cached_property
    def name(self) -> str:
        """The script with its package: `training_svc.jobs.training_jobs`."""
        parts = [self.script.stem]
        folder = self.script.absolute().parent
        folder = folder if (folder / "__init__.py").exists() else folder.parent
        while (folder / "__init__.py").exists():
            parts.append(folder.name)
            folder = folder.parent
        return ".".join(reversed(parts))

    @property
    def is_shared(self) -> bool:
        """Whether several services write these tables: then the script is in `service_kit`."""
        return self.name.startswith("service_kit.")

    @cached_property
    def versions(self) -> Sequence[Version]:
        """Every version that this release knows, the oldest first. Raises BadMigration."""
        versions = [Version(1, 1, self.script.read_text())]
        for number, file in enumerate(sorted(self.script.with_suffix("").glob("*.sql")), 2):
            text = file.read_text()
            name, first_line = _FILE_NAME.fullmatch(file.name), _FIRST_LINE.match(text)
            if name is None or int(name[1]) != number:
                raise BadMigration(f"{file}: its name has to begin with {number:04}_")
            if first_line is None or not 1 <= int(first_line[1]) <= number:
                raise BadMigration(
                    f"{file}: its first line has to be `-- compatible_from: N`, where N is a"
                    f" version from 1 to {number}"
                )
            versions.append(Version(number, int(first_line[1]), text))
        return versions

    def bring_up(self, cursor: Cursor) -> None:
        """Bring the tables to the newest version that this release knows.

        Tables that are newer are left as they are when this release can work with them, so that it
        can start again beside a newer one; else SchemaTooNew is raised. The caller holds a lock
        against other services that do the same, and commits.
        """
        cursor.execute(
            # A database of a release that recorded no versions counts as version 0.
            "SELECT coalesce(max(version), 0), coalesce(max(compatible_from), 1)"
            " FROM mesh.schema_versions WHERE component = %s",
            (self.name,),
        )
        [(found, compatible_from)] = cursor.fetchall()
        known = self.versions[-1].number
        if found > known:
            if compatible_from > known:
                raise SchemaTooNew(
                    f"the tables of {self.name} have version {found}, made by a later release of"
                    f" the mesh; they need code that knows version {compatible_from} or later, and"
                    f" this release knows version {known}. Start the later release, or restore a"
                    " backup that was made before the upgrade"
                )
            log.info(
                "the tables are newer than this release, which can work with them",
                extra={"component": self.name, "version": found, "known": known},
            )
            return
        with as_shared_owner(cursor) if self.is_shared else nullcontext():
            self._run_scripts(cursor, found)

    def _run_scripts(self, cursor: Cursor, found: int) -> None:
        for version in self.versions:
            # The script of version 1 is idempotent. It is run again until the tables have a later
            # version, so that a trigger or an index that somebody dropped comes back.
            if version.number > found or found == version.number == 1:
                cursor.execute(version.sql)
                cursor.execute(
                    "INSERT INTO mesh.schema_versions (component, version, compatible_from)"
                    " VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                    (self.name, version.number, version.compatible_from),
                )
