"""The table of Envoy's own errors: what it refuses, and the words that clients get for it."""

from dataclasses import dataclass

from control_plane.topology import Limits
from service_kit.limits import MAX_HEADER_BYTES, MAX_HEADERS, MAX_MESSAGE_BYTES

UNKNOWN = 2
_INVALID_ARGUMENT = 3
PERMISSION_DENIED = 7
EXHAUSTED = 8
_UNIMPLEMENTED = 12
_DEADLINE = 4
# Envoy's response flags.
NO_ROUTE = "NR"
TOO_LATE = "UMSDR"
TOO_MUCH = "UO"
_NOTHING_MOVED = "SI"
FOREIGN = (
    "origin: pages of this origin may not call; the operator of the mesh can add it to "
    "CONTROL_ALLOWED_ORIGINS"
)
FULL = "the mesh has as much to do as it can; try again a little later"
TOO_MANY_HEADERS = (
    f"headers: are more than {MAX_HEADERS} or, with the path, longer than {MAX_HEADER_BYTES:,} "
    "bytes together; send fewer or shorter ones"
)
_IDLE = "nothing came for too long; a stream of predictions may pause for 5 min, an import for 30 s"
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


def _denied_by(policy: str) -> str:
    """Return Envoy's reason when this policy of a filter refuses a request."""
    return f"rbac_access_denied_matched_policy[{policy}]"


# The reason of the routes that decide only which filters see a call (routes/route_messages.py).
NO_CLUSTER = "cluster_not_found"

# Name of the policy that refuses too many headers (header_limit.py), and Envoy's reason with it.
HEADER_POLICY = "headers"
_DENIED = _denied_by(HEADER_POLICY)

# Names of the policies that refuse strangers (strangers.py), and the words for it.
HOST_POLICY, ORIGIN_POLICY, TYPE_POLICY = "host", "origin", "type"
_FOREIGN_HOST = (
    "host: is not a name of this mesh; use its IP address, or have its operator add the name to "
    "CONTROL_ALLOWED_HOSTS"
)
_NOT_JSON = "content-type: is not application/json, which a body at this path has to be"
_STRANGERS = (
    Reply(403, PERMISSION_DENIED, _FOREIGN_HOST, why=_denied_by(HOST_POLICY)),
    Reply(403, PERMISSION_DENIED, FOREIGN, why=_denied_by(ORIGIN_POLICY)),
    Reply(403, _INVALID_ARGUMENT, _NOT_JSON, as_http=415, why=_denied_by(TYPE_POLICY)),
)
_TOO_OFTEN = "this caller sends more calls a second than it may; try again a little later"

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
_TOO_LARGE = f"message: is larger than the limit of {MAX_MESSAGE_BYTES:,} bytes"
OVER_GRPC = (
    *_STRANGERS,
    Reply(403, _INVALID_ARGUMENT, TOO_MANY_HEADERS, why=_DENIED),
    Reply(400, _INVALID_ARGUMENT, "path: cannot be read", why="path_normalization_failed"),
    Reply(400, _INVALID_ARGUMENT, "the call is not one whole message and cannot be read"),
    Reply(404, _UNIMPLEMENTED, "there is no such method"),
    Reply(405, _UNIMPLEMENTED, "gRPC calls are POST"),
    Reply(408, _DEADLINE, _IDLE, flag=_NOTHING_MOVED),
    Reply(413, _INVALID_ARGUMENT, _TOO_LARGE),
)


def replies(limits: Limits) -> tuple[Reply, ...]:
    """Return the table of answers; the first one that matches applies."""
    too_large = f"body: is larger than the limit of {limits.max_body_bytes:,} bytes"
    too_late = "the call outlasted its deadline or the limit of its method"
    return (
        *_UNREADABLE,
        *_STRANGERS,
        Reply(400, 3),
        Reply(401, 16),
        Reply(403, _INVALID_ARGUMENT, TOO_MANY_HEADERS, as_http=431, why=_DENIED),
        Reply(403, 7),
        Reply(404, 5, "there is nothing at this path", flag=NO_ROUTE),
        Reply(404, 5),
        Reply(405, 12),
        Reply(408, 4, too_late, flag=TOO_LATE, as_http=504),
        Reply(408, 4, _IDLE, flag=_NOTHING_MOVED),
        Reply(408, 4),
        Reply(413, 3, too_large),
        Reply(415, 3),
        Reply(429, EXHAUSTED, _TOO_OFTEN, why="local_rate_limited"),
        Reply(429, 8),
        Reply(431, _INVALID_ARGUMENT, TOO_MANY_HEADERS),
        Reply(500, 13),
        Reply(501, 12),
        Reply(502, 14),
        Reply(503, EXHAUSTED, FULL, flag=TOO_MUCH, as_http=429),
        Reply(503, 14),
        Reply(504, 4),
    )
