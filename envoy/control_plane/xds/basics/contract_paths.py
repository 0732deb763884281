"""The paths over HTTP that the contract's annotations (google.api.http) give to its methods."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet


@dataclass(frozen=True)
class ContractPath:
    """One path that a method answers."""

    verb: str
    """GET, POST, PUT or DELETE."""

    template: str
    """For example /v1/models/{model}:predict."""

    body: str
    """An asterisk when the body holds the other fields, empty when the request has no body."""

    method: str
    """Path of the method over gRPC, such as /mesh.v1.TrainService/Train."""

    message: str
    """Full name of the request's message."""

    is_stream: bool
    """The answer is a stream."""


def descriptor() -> bytes:
    """Return the descriptor set of every public service."""
    return files("mesh").joinpath("descriptor.pb").read_bytes()


def contract_paths(described: FileDescriptorSet) -> Iterator[ContractPath]:
    """Yield every annotated path, in the order of the descriptor set."""
    for file in described.file:
        for service in file.service:
            for method in service.method:
                for verb, template, body in _bindings(
                    method.options.Extensions[annotations_pb2.http]
                ):
                    path = f"/{file.package}.{service.name}/{method.name}"
                    yield ContractPath(
                        verb, template, body, path, method.input_type, method.server_streaming
                    )


def _bindings(rule: http_pb2.HttpRule) -> Iterator[tuple[str, str, str]]:
    """Yield verb, template and body of a rule and of its additional bindings."""
    verb = rule.WhichOneof("pattern")
    if verb:
        yield verb.upper(), getattr(rule, verb), rule.body
    for binding in rule.additional_bindings:
        yield from _bindings(binding)
