"""The Lua script that checks JSON requests: tables made from the contract, then .lua files."""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

from control_plane.xds.json_check.schema import Field, HttpMethod, Schema, schema_of
from service_kit.limits import MAX_EXAMPLES

# Name of the metadata in which the script leaves what is wrong with a request.
METADATA = "mesh.json"
_PARTS = ("reader.lua", "values.lua", "request.lua")
# Characters that mean something in a Lua pattern.
_MAGIC = frozenset("^$()%.[]*+-?")


@cache
def script(descriptor: bytes) -> str:
    """Return the script for the public services of a descriptor set."""
    schema = schema_of(descriptor)
    folder = files("control_plane.xds.json_check")
    return "\n".join((*_tables(schema), *(folder.joinpath(part).read_text() for part in _PARTS)))


def _tables(schema: Schema) -> Iterable[str]:
    yield f"local METADATA = {_text(METADATA)}"
    yield f"local MOST_ITEMS = {MAX_EXAMPLES}"
    yield "local ROUTES, MESSAGES = {}, {}"
    for name, fields in schema.messages.items():
        yield f"MESSAGES[{_text(name)}] = {{fields = {{}}, list = {_text(_names(fields))}}}"
        for field in fields:
            both = f"fields[{_text(field.name)}], fields[{_text(field.json_name)}]"
            yield f"do local fields = MESSAGES[{_text(name)}].fields"
            yield f"  local field = {_field(field, schema)}"
            yield f"  {both} = field, field end"
    for verb in sorted({method.verb for method in schema.methods}):
        routes = [_route(method, schema) for method in schema.methods if method.verb == verb]
        yield f"ROUTES[{_text(verb)}] = {{\n  " + ",\n  ".join(routes) + "}"


def _field(field: Field, schema: Schema) -> str:
    values = schema.enums.get(field.type_name, ())
    entries = {
        "name": _text(field.name),
        "plain": _text(_plain(field.name)),
        "kind": _text(field.kind),
        "repeated": "true" if field.repeated else "false",
        "type": _text(field.type_name),
        "values": _table(dict.fromkeys(values, "true")),
        "list": _text(", ".join(values)),
    }
    return _table(entries)


def _route(method: HttpMethod, schema: Schema) -> str:
    fields = schema.messages[method.message]
    entries = {
        "pattern": _text(_pattern(method.template)),
        "variables": "{" + ", ".join(_text(name) for name in method.variables) + "}",
        "message": _text(method.message),
        "repeated": _table({_plain(field.name): "true" for field in fields if field.repeated}),
    }
    return _table(entries)


def _pattern(template: str) -> str:
    """Return the Lua pattern of a path template such as /v1/models/{model}:predict."""
    pieces = template.replace("}", "{").split("{")
    # Every second piece is the name of a variable.
    return (
        "^"
        + "".join("([^/]+)" if n % 2 else _quoted(piece) for n, piece in enumerate(pieces))
        + "$"
    )


def _quoted(piece: str) -> str:
    return "".join(f"%{character}" if character in _MAGIC else character for character in piece)


def _plain(name: str) -> str:
    """Return a field's name as request.lua compares the names of a query."""
    return name.replace("_", "").lower()


def _names(fields: Iterable[Field]) -> str:
    return ", ".join(sorted(field.json_name for field in fields)) or "none"


def _table(entries: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"[{_text(key)}] = {value}" for key, value in entries.items()) + "}"


def _text(value: str) -> str:
    """Return a Lua string. The contract's names and paths hold no quotes and no backslashes."""
    return f'"{value}"'
