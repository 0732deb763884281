"""One method of the server: its handler, and how a request becomes its message."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from service_kit.errors import InvalidArgument, MeshError
from service_kit.interceptor import (
    Context,
    Undecodable,
    message_too_large,
    safe_decoder,
    wrap_unary_response,
)
from service_kit.limits import MAX_HEADER_BYTES, MAX_MESSAGE_BYTES
from service_kit.unary_over_http1.request_reader import MAX_BODY_BYTES, MAX_HEAD_BYTES, Request
from service_kit.unary_over_http1.wire import HEAD_BYTES, unframed


@dataclass(frozen=True)
class UnaryMethod:
    """The handler of one method and the decoder of its requests."""

    answer: Callable[[Any, Context], Awaitable[Any]]
    """Takes a message or an Undecodable, and the context. It turns errors into `context.abort`,
    which raises aio.AbortError."""

    decode: Callable[[bytes], Any]
    """Returns a message, or an Undecodable when the bytes are none."""

    @classmethod
    def of(
        cls,
        path: str,
        behaviour: Callable[[Any, Context], Awaitable[Any]],
        decode: Callable[[bytes], Any],
    ) -> "UnaryMethod":
        """Give `behaviour` the error mapping and the metrics of every gRPC handler here."""
        return cls(wrap_unary_response(path, behaviour), safe_decoder(decode))

    def message(self, request: Request) -> Any:
        """Return the message of a request, or an Undecodable."""
        if request.head_bytes > MAX_HEAD_BYTES:
            problem = f"has {request.head_bytes:,} bytes; at most {MAX_HEADER_BYTES:,} are taken"
            return Undecodable(InvalidArgument("metadata", problem))
        if request.body_bytes > MAX_BODY_BYTES:
            return Undecodable(message_too_large(request.body_bytes - HEAD_BYTES))
        encoding = request.headers.get(b"grpc-encoding", b"").decode("latin-1")
        try:
            return self.decode(unframed(request.body, encoding, MAX_MESSAGE_BYTES))
        except MeshError as error:
            return Undecodable(error)
