"""The script that makes the table of tokens, mesh.tokens."""

from importlib import resources
from pathlib import Path

SCHEMA = Path(str(resources.files("service_kit.callers") / "sql" / "tokens.sql"))
