"""Hypothesis strategies for anything that clients may send: messages of any type, bytes, JSON."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor as descriptors
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

# Codes with which the mesh may answer, no matter what a client sends.
ANSWERS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
MOST_CALLS_S = 20.0
# Details with which grpcio's client itself ends a call when the server has ended it while the
# client was still sending.
_WROTE_TOO_LATE = "Internal error from Core"

_NASTY = ("\0", "\ufeff", "\u202e", "'; --", "%", "../..", "{}", "a\nb", "\U0001f600", "x" * 40_000)
TEXTS = st.sampled_from(_NASTY) | st.text(max_size=30)
_INTEGERS = st.sampled_from((0, 1, -1, 2, 100, 2**31 - 1, -(2**31)))
_FLOATS = st.sampled_from((0.0, -0.0, 1.0, -1.0, 1e308, 5e-324)) | st.floats()


def messages(kind: Any, names: tuple[str, ...]) -> SearchStrategy[Message]:
    """Messages of the class `kind`, with any values; a string is often one of `names`."""
    return _messages(kind.DESCRIPTOR, st.sampled_from(names) | TEXTS, depth=3)


def wire(kind: Any, names: tuple[str, ...]) -> SearchStrategy[bytes]:
    """Bytes to send as a message of the class `kind`: well-formed, damaged, or random ones."""
    whole = messages(kind, names).map(lambda message: message.SerializeToString())
    damaged = st.tuples(whole, st.binary(max_size=8), st.integers(0, 1_000_000)).map(_damage)
    return whole | whole | damaged | st.binary(max_size=200)


def json_values(names: tuple[str, ...]) -> SearchStrategy[Any]:
    """Any value of JSON, and values that only Python's writer knows (NaN, half surrogates)."""
    surrogates = st.text(st.characters(), max_size=5)
    leaves = st.none() | st.booleans() | _INTEGERS | _FLOATS | st.sampled_from(names) | surrogates
    return st.recursive(
        leaves | TEXTS | st.integers(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=8,
    )


@dataclass
class Answer:
    """The messages of an answer, and the status with which the call ended."""

    messages: list[bytes]
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str | None = ""


async def answered(channel: aio.Channel, method: str, *requests: bytes) -> Answer:
    """Send messages, as bytes, to a method, and read its whole answer.

    Of WatchTraining, whose answer does not end while the job is queued, and of Watch, whose answer
    never ends, read one message.
    """
    ask: Any = channel.stream_stream(method)
    answer = Answer([])
    call = ask(iter(requests), timeout=MOST_CALLS_S)
    try:
        async for message in call:
            answer.messages.append(message)
            if method.endswith(("WatchTraining", "/Watch")):
                call.cancel()
                break
    except aio.AioRpcError as error:
        if error.details() == _WROTE_TOO_LATE:
            return answer
        answer.code, answer.details = error.code(), error.details()
    return answer


def methods(*services: Any) -> Iterator[tuple[str, Any]]:
    """Path and request class of every method of these service descriptors."""
    for service in services:
        for method in service.methods:
            yield f"/{service.full_name}/{method.name}", GetMessageClass(method.input_type)


def _damage(case: tuple[bytes, bytes, int]) -> bytes:
    whole, junk, position = case
    at = position % (len(whole) + 1)
    return whole[:at] + junk + whole[at + len(junk) // 2 :]


def _messages(
    descriptor: descriptors.Descriptor, strings: SearchStrategy[str], depth: int
) -> SearchStrategy[Message]:
    fields = {
        field.name: _field(field, strings, depth)
        for field in descriptor.fields
        if depth or field.message_type is None
    }
    kind = GetMessageClass(descriptor)
    # Each field is left out now and then.
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: _made(kind, given))


def _made(kind: Any, given: dict[str, Any]) -> Message:
    message: Message = kind()
    for name, value in given.items():
        field = kind.DESCRIPTOR.fields_by_name[name]
        if _is_map(field) and field.message_type.fields_by_name["value"].message_type:
            for key, item in value.items():
                getattr(message, name)[key].CopyFrom(item)
        elif _is_map(field):
            getattr(message, name).update(value)
        elif field.is_repeated:
            getattr(message, name).extend(value)
        elif field.message_type:
            getattr(message, name).CopyFrom(value)
        else:
            setattr(message, name, value)
    return message


def _is_map(field: Any) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _field(field: Any, strings: SearchStrategy[str], depth: int) -> SearchStrategy[Any]:
    if _is_map(field):
        entry = field.message_type.fields_by_name
        values = _field(entry["value"], strings, depth - 1)
        return st.dictionaries(_field(entry["key"], strings, 0), values, max_size=3)
    one = _one(field, strings, depth)
    return st.lists(one, max_size=4) if field.is_repeated else one


def _one(field: Any, strings: SearchStrategy[str], depth: int) -> SearchStrategy[Any]:
    kinds = descriptors.FieldDescriptor
    if field.message_type:
        return _messages(field.message_type, strings, depth - 1)
    if field.cpp_type == kinds.CPPTYPE_STRING:
        return st.binary(max_size=50) if field.type == kinds.TYPE_BYTES else strings
    if field.cpp_type == kinds.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type == kinds.CPPTYPE_FLOAT:
        return st.floats(width=32)
    if field.cpp_type == kinds.CPPTYPE_DOUBLE:
        return _FLOATS
    if field.cpp_type == kinds.CPPTYPE_ENUM:
        return st.integers(-3, 12)
    signed = field.cpp_type in (kinds.CPPTYPE_INT32, kinds.CPPTYPE_INT64)
    bits = 32 if field.cpp_type in (kinds.CPPTYPE_INT32, kinds.CPPTYPE_UINT32) else 64
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(-2 if signed else 0, 1100) | st.integers(low, high)
