"""The table of Envoy's own errors: what it refuses, and the words that clients get for it."""

from dataclasses import dataclass

from control_plane.topology import Limits
from service_kit.limits import MAX_HEADER_BYTES, MAX_HEADERS

UNKNOWN = 2
_INVALID_ARGUMENT = 3
PERMISSION_DENIED = 7
EXHAUSTED = 8
_UNIMPLEMENTED = 12
# Envoy's response flags.
NO_ROUTE = "NR"
TOO_LATE = "UMSDR"
TOO_MUCH = "UO"
FOREIGN = "origin: pages of this origin may not call; the operator of the mesh can allow it"
FULL = "the mesh has as much to do as it can; try again a little later"
TOO_MANY_HEADERS = (
    f"headers: are more than {MAX_HEADERS} or, with the path, longer than {MAX_HEADER_BYTES:,} "
    "bytes together; send fewer or shorter ones"
)
UNNAMED = "the request was refused: %RESPONSE_CODE_DETAILS%"
# The text of the filter, router or codec that refused the request.
_ENVOYS_TEXT = "%LOCAL_REPLY_BODY%"


@dataclass(frozen=True)
class Reply:
    """The answer to clients for one HTTP status that Envoy itself gives."""

    http: int
    code: int
    """gRPC code, as a number."""

    message: str = _ENVOYS_TEXT
    flag: str = ""
    """The answer applies only with this response flag; empty: with any."""

    as_http: int | None = None
    """HTTP status to send instead; None: the same one."""

    why: str = ""
    """The answer applies only when Envoy's reason, its response code details, begins like this;
    empty: with any reason."""


# The reason of the routes that decide only which filters see a call (routes/route_messages.py).
NO_CLUSTER = "cluster_not_found"

# Name of the policy that refuses too many headers (header_limit.py), and Envoy's reason with it.
HEADER_POLICY = "headers"
_DENIED = f"rbac_access_denied_matched_policy[{HEADER_POLICY}]"

# What Envoy refuses before it has a whole request, and so without a text of its own or with the
# name of the status only. The reasons are the names that Envoy's access log has for them.
_UNREADABLE = (
    Reply(400, 3, "host: is missing; every request of HTTP/1.1 names one", why="missing_host"),
    Reply(400, 3, "host: is no host with an optional port", why="http.invalid_authority"),
    Reply(
        400,
        3,
        "path: cannot be read; it has no #, no escaped NUL and no other byte that is not printable",
        why="path_normalization_failed",
    ),
    Reply(
        *(400, 3, "path: is neither a path that begins with / nor a URL of http or https"),
        why="http1.invalid_url",
    ),
    Reply(400, 3, "path: is a URL of neither http nor https", why="http1.invalid_scheme"),
    Reply(
        *(400, 3, "a header has a byte that HTTP does not allow"), why="http1.invalid_characters"
    ),
    Reply(
        *(400, 3, "content-length and transfer-encoding are both there; send one of them"),
        why="http1.content_length_and_chunked",
    ),
    Reply(
        400,
        3,
        "this is no request of HTTP/1.1: the request line, the name of a header, content-length or "
        "a chunk of the body cannot be read (%RESPONSE_CODE_DETAILS%)",
        why="http1.",
    ),
    Reply(400, 3, "this is no request of HTTP (%RESPONSE_CODE_DETAILS%)", why="http"),
    Reply(
        *(403, 3, "upgrade: no other protocol is spoken here, and no web sockets; leave it out"),
        as_http=400,
        why="upgrade_failed",
    ),
    Reply(404, 5, "there is nothing at this path", why="absolute_path_rejected"),
    Reply(404, 5, "there is nothing at this path", why="missing_path"),
    Reply(404, 5, "there is nothing at this path", why=NO_CLUSTER),
    Reply(426, 3, "HTTP/1.0 and later are taken", as_http=400),
    Reply(501, 12, "transfer-encoding: only chunked is taken", why="http1."),
)

# What Envoy's own way from HTTP statuses to codes of gRPC would call UNKNOWN or INTERNAL.
OVER_GRPC = (
    Reply(403, _INVALID_ARGUMENT, TOO_MANY_HEADERS, why=_DENIED),
    Reply(400, _INVALID_ARGUMENT, "path: cannot be read", why="path_normalization_failed"),
    Reply(400, _INVALID_ARGUMENT, "the call is not one whole message and cannot be read"),
    Reply(404, _UNIMPLEMENTED, "there is no such method"),
    Reply(405, _UNIMPLEMENTED, "gRPC calls are POST"),
    Reply(413, _INVALID_ARGUMENT, "message: is larger than the limit"),
)


def replies(limits: Limits) -> tuple[Reply, ...]:
    """Return the table of answers; the first one that matches applies."""
    too_large = f"body: is larger than the limit of {limits.max_body_bytes:,} bytes"
    too_late = "the call outlasted its deadline or the limit of its method"
    return (
        *_UNREADABLE,
        Reply(400, 3),
        Reply(401, 16),
        Reply(403, _INVALID_ARGUMENT, TOO_MANY_HEADERS, as_http=431, why=_DENIED),
        Reply(403, 7),
        Reply(404, 5, "there is nothing at this path", flag=NO_ROUTE),
        Reply(404, 5),
        Reply(405, 12),
        Reply(408, 4, too_late, flag=TOO_LATE, as_http=504),
        Reply(408, 4),
        Reply(413, 3, too_large),
        Reply(415, 3),
        Reply(429, 8),
        Reply(431, _INVALID_ARGUMENT, TOO_MANY_HEADERS),
        Reply(500, 13),
        Reply(501, 12),
        Reply(502, 14),
        Reply(503, EXHAUSTED, FULL, flag=TOO_MUCH, as_http=429),
        Reply(503, 14),
        Reply(504, 4),
    )
