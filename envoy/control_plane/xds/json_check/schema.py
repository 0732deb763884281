"""What the check of JSON requests has to know of the contract: paths, messages and fields.

Read from the descriptor set of the public services, the same one that the transcoder uses.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
)

from control_plane.xds.basics.contract_paths import ContractPath, contract_paths

_Kind = FieldDescriptorProto
# Kinds of values as the script names them. The contract has no other kind in a request that comes
# as JSON; a new kind needs its rule in the script first.
_KINDS: Mapping[int, str] = {
    _Kind.TYPE_STRING: "string",
    _Kind.TYPE_BOOL: "bool",
    _Kind.TYPE_INT32: "int32",
    _Kind.TYPE_DOUBLE: "double",
    _Kind.TYPE_ENUM: "enum",
    _Kind.TYPE_MESSAGE: "message",
}
_VARIABLE = re.compile(r"{([a-z_]+)}")


class UnknownKind(Exception):
    """A request has a field of a kind that the check has no rule for."""


@dataclass(frozen=True)
class Field:
    """One field of a message."""

    name: str
    """Its name in the .proto file."""

    json_name: str
    kind: str
    repeated: bool
    type_name: str
    """Full name of its message or enum; empty for other kinds."""


@dataclass(frozen=True)
class HttpMethod:
    """One path that a method answers."""

    verb: str
    """GET, POST, PUT or DELETE."""

    template: str
    message: str
    """Full name of the request's message."""

    has_body: bool

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the fields that the path gives, in its order."""
        return tuple(_VARIABLE.findall(self.template))


@dataclass(frozen=True)
class Schema:
    """Every HTTP method with the messages and the enums that its body may hold."""

    methods: tuple[HttpMethod, ...]
    messages: Mapping[str, tuple[Field, ...]]
    enums: Mapping[str, tuple[str, ...]]


def schema_of(descriptor: bytes) -> Schema:
    """Read a descriptor set. Raises UnknownKind."""
    described_set = FileDescriptorSet.FromString(descriptor)
    files = described_set.file
    described = {
        f".{file.package}.{message.name}": message
        for file in files
        for message in file.message_type
    }
    enums = {
        f".{file.package}.{enum.name}": tuple(value.name for value in enum.value)
        for file in files
        for enum in file.enum_type
    }
    methods = [_method(path) for path in contract_paths(described_set)]
    messages: dict[str, tuple[Field, ...]] = {}
    waiting = [method.message for method in methods]
    while waiting:
        name = waiting.pop()
        if name not in messages:
            messages[name] = tuple(_fields(described[name]))
            waiting += [field.type_name for field in messages[name] if field.kind == "message"]
    used = {field.type_name for fields in messages.values() for field in fields}
    methods.sort(key=_order)
    return Schema(tuple(methods), messages, {k: v for k, v in enums.items() if k in used})


def _method(path: ContractPath) -> HttpMethod:
    if path.body not in ("", "*"):
        raise UnknownKind(f"the body of {path.template} is one field, {path.body}")
    return HttpMethod(path.verb, path.template, path.message, bool(path.body))


def _order(method: HttpMethod) -> tuple[bool, int, str, str]:
    """Sort by the order in which a path is compared with the templates.

    Most requests are predictions, so their template comes first. Of the others a longer one is more
    exact: `…/{id}:watch` stands before `…/{id}`.
    """
    later = not method.template.endswith(":predict")
    return later, -len(method.template), method.template, method.verb


def _fields(message: DescriptorProto) -> Iterator[Field]:
    for field in message.field:
        if field.type not in _KINDS or field.HasField("oneof_index") or message.nested_type:
            raise UnknownKind(f"{message.name}.{field.name}")
        yield Field(
            field.name,
            field.json_name,
            _KINDS[field.type],
            field.label == FieldDescriptorProto.LABEL_REPEATED,
            field.type_name,
        )
