"""A result as JSON, for another process on this machine: its columns keep the machine's bytes."""

import base64
import json
from array import array
from typing import Any

from mesh_cli.load.results.answering_server import Server
from mesh_cli.load.results.result import Event, Generator, LoadResult

_COLUMNS = {"due": "d", "latency": "d", "code": "H", "server": "i"}


def result_to_json(result: LoadResult) -> str:
    """A result as JSON, its columns included."""
    fields = {name: getattr(result, name) for name in LoadResult.__dataclass_fields__}
    for name in _COLUMNS:
        fields[name] = base64.b64encode(fields[name].tobytes()).decode()
    fields["generator"] = vars(result.generator)
    fields["events"] = [vars(event) for event in result.events]
    return json.dumps(fields)


def result_from_json(document: str) -> LoadResult:
    """Read a result that `result_to_json` wrote."""
    fields: dict[str, Any] = json.loads(document)
    for name, typecode in _COLUMNS.items():
        fields[name] = array(typecode, base64.b64decode(fields[name]))
    fields["servers"] = [Server(*server) for server in fields["servers"]]
    fields["generator"] = Generator(**fields["generator"])
    fields["events"] = tuple(Event(**event) for event in fields["events"])
    return LoadResult(**fields)
