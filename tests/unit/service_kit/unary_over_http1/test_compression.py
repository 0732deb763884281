"""gRPC's rules of compression at the unary server; see gRPC's doc/compression.md."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from service_kit.errors import InvalidArgument
from service_kit.limits import MAX_MESSAGE_BYTES
from service_kit.unary_over_http1.wire import unframed
from tests.unit.service_kit.unary_over_http1.echo_peer import call, listening, message

WHOLE = StringValue(value="packed").SerializeToString()
GZIP, DEFLATE = gzip.compress(WHOLE, mtime=0), zlib.compress(WHOLE)
OK, INVALID, UNIMPLEMENTED, INTERNAL = "0", "3", "12", "13"


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def flagged(data: bytes, flag: int = 1) -> bytes:
    """The body of a call whose message says that it is compressed."""
    return bytes((flag,)) + len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate)],
)
async def test_messages_may_be_compressed(
    encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    async with listening() as peer:
        body = flagged(compress(WHOLE))
        assert (await peer.ask(call(body, f"grpc-encoding: {encoding}")))[2] == message("packed")


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
async def test_a_message_that_is_not_marked_is_not_unpacked(encoding: str) -> None:
    async with listening() as peer:
        body = message("plain")
        assert (await peer.ask(call(body, f"grpc-encoding: {encoding}")))[2] == body


@pytest.mark.parametrize(
    ("encoding", "body", "code"),
    [
        (None, flagged(GZIP), INTERNAL),
        ("", flagged(GZIP), INTERNAL),
        ("identity", flagged(GZIP), INTERNAL),
        ("identity", flagged(WHOLE), INTERNAL),
        ("gzip", flagged(GZIP, flag=2), INTERNAL),
        ("gzip", flagged(GZIP, flag=255), INTERNAL),
        ("snappy", flagged(GZIP), UNIMPLEMENTED),
        ("GZIP", flagged(GZIP), UNIMPLEMENTED),
        ("gzip, gzip", flagged(GZIP), UNIMPLEMENTED),
        ("x" * 5_000, flagged(GZIP), UNIMPLEMENTED),
        ("gzip", flagged(DEFLATE), INVALID),
        ("deflate", flagged(GZIP), INVALID),
        ("gzip", flagged(b""), INVALID),
        ("gzip", flagged(GZIP[:-3]), INVALID),
        ("gzip", flagged(GZIP + GZIP), INVALID),
        ("gzip", flagged(GZIP + b"x"), INVALID),
        ("deflate", flagged(DEFLATE[:-1]), INVALID),
    ],
)
async def test_compression_that_cannot_be_read_is_refused(
    encoding: str | None, body: bytes, code: str
) -> None:
    headers = [] if encoding is None else [f"grpc-encoding: {encoding}"]
    async with listening() as peer:
        status, fields, _ = await peer.ask(call(body, *headers))
        assert (status, fields["grpc-status"]) == ("HTTP/1.1 200 OK", code)
        assert fields["grpc-accept-encoding"] == "identity,gzip,deflate"
        assert peer.echo.begun == 0


async def test_a_compressed_message_is_unpacked_up_to_the_limit_only() -> None:
    body = flagged(gzip.compress(b"\0" * (10 * MAX_MESSAGE_BYTES)))
    with pytest.raises(InvalidArgument, match="at most 1,000 are taken"):
        unframed(body, "gzip", 1000)
    async with listening() as peer:
        _, fields, _ = await peer.ask(call(body, "grpc-encoding: gzip"))
        assert (fields["grpc-status"], peer.echo.begun) == (INVALID, 0)
        assert "at most 8,388,608 are taken" in fields["grpc-message"]


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
def test_a_message_of_the_limit_is_whole(size: int) -> None:
    assert unframed(flagged(gzip.compress(b"a" * size)), "gzip", 1000) == b"a" * size
    with pytest.raises(InvalidArgument, match="not whole"):
        unframed(flagged(gzip.compress(b"a" * size)[:-1]), "gzip", 1000)
