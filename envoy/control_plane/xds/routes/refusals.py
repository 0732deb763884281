"""Routes that answer by themselves what no service has to see: a method that a path does not take,
the question which ones it takes, and bodies in an encoding that nobody here reads."""

from collections.abc import Iterator

from envoy_data_plane.envoy.config.core.v3 import DataSource, HeaderValue, HeaderValueOption
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    FilterConfig,
    HeaderMatcher,
    Route,
    RouteMatch,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any

from control_plane.xds.basics import names
from control_plane.xds.routes.known_paths import KnownPaths, grpc_paths, known_paths

_OPTIONS = "OPTIONS"
# An absent header counts as empty.
_NOT_ENCODED = r"(?i)\s*(identity\s*(,\s*identity\s*)*)?"


def refusals() -> Iterator[Route]:
    """Yield the routes, which stand before all others."""
    for paths in known_paths():
        yield _allowed(paths)
        yield _wrong_method(paths)
    for pattern in grpc_paths():
        yield _not_grpc(pattern)
    yield _encoded()


def _allowed(paths: KnownPaths) -> Route:
    match = RouteMatch(safe_regex=_regex(paths.pattern), headers=[_method_is(_OPTIONS)])
    return _answer(f"options {_allow(paths)}", match, 204, "", {"allow": _allow(paths)})


def _wrong_method(paths: KnownPaths) -> Route:
    match = RouteMatch(
        safe_regex=_regex(paths.pattern), headers=[_method_is(*paths.methods, but=True)]
    )
    text = f"send {' or '.join(paths.methods)}"
    return _answer(f"method not {_allow(paths)}", match, 405, text, {"allow": _allow(paths)})


def _not_grpc(pattern: str) -> Route:
    grpc = HeaderMatcher(
        name="content-type",
        string_match=StringMatcher(prefix="application/grpc"),
        invert_match=True,
        treat_missing_header_as_empty=True,
    )
    text = "content-type: is not application/grpc, and methods of gRPC take nothing else"
    match = RouteMatch(safe_regex=_regex(pattern), headers=[grpc])
    return _answer("not grpc", match, 415, text, {"accept-post": "application/grpc"})


def _encoded() -> Route:
    """Refuse compressed JSON: what a small body unpacks to is known only when it is too large."""
    encoded = HeaderMatcher(
        name="content-encoding",
        string_match=StringMatcher(safe_regex=_regex(_NOT_ENCODED)),
        invert_match=True,
        treat_missing_header_as_empty=True,
    )
    text = "content-encoding: only identity is taken; send the JSON as it is"
    match = RouteMatch(prefix="/v1/", headers=[encoded])
    return _answer("encoded", match, 415, text, {"accept-encoding": "identity"})


def _answer(name: str, match: RouteMatch, status: int, text: str, headers: dict[str, str]) -> Route:
    return Route(
        name=name,
        match=match,
        direct_response=DirectResponseAction(
            status=status, body=DataSource(inline_string=text) if text else None
        ),
        response_headers_to_add=[
            HeaderValueOption(header=HeaderValue(key=key, value=value))
            for key, value in headers.items()
        ],
        # The transcoder would answer 404 before this route can.
        typed_per_filter_config={names.TRANSCODER: Any.pack(FilterConfig(disabled=True))},
    )


def _method_is(*methods: str, but: bool = False) -> HeaderMatcher:
    """Match these methods; with `but`, match all others except OPTIONS."""
    known = "|".join((*methods, _OPTIONS) if but else methods)
    return HeaderMatcher(
        name=":method", string_match=StringMatcher(safe_regex=_regex(known)), invert_match=but
    )


def _allow(paths: KnownPaths) -> str:
    return ", ".join(sorted((*paths.methods, _OPTIONS)))


def _regex(pattern: str) -> RegexMatcher:
    return RegexMatcher(regex=pattern)
