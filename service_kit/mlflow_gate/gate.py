"""The ASGI application around MLflow's: it refuses what a caller may not do, and passes the rest.

The body of an upload and that of an answer go through as they come: nothing is copied.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from service_kit.mlflow_gate import routes
from service_kit.mlflow_gate.browsers import Browsers
from service_kit.mlflow_gate.locations import FIELDS, BadPlace, Places
from service_kit.mlflow_gate.tokens import BadToken, Holder, TokenCheck

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# Bytes of a body that is no file. MLflow's own limit for a batch of metrics is 1 MB.
LARGEST_BODY = 8 << 20
# Headers that MLflow does not need: the gate has checked both.
_TAKEN = (b"authorization", b"origin")


@dataclass(frozen=True)
class Refusal(Exception):
    """A request is refused: an HTTP status, MLflow's name for it and the reason."""

    status: int
    code: str
    reason: str


class Gate:
    """Every request needs a right that routes.py names, but for reading where that is open."""

    def __init__(
        self, app: App, tokens: TokenCheck, places: Places, browsers: Browsers, open_reads: bool
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._places = places
        self._browsers = browsers
        self._open_reads = open_reads

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            self._check(scope)
            receive = await self._with_checked_body(scope, receive)
        except Refusal as refusal:
            await _answer(refusal, send)
            return
        headers = [pair for pair in scope["headers"] if pair[0] not in _TAKEN]
        await self._app({**scope, "headers": headers}, receive, send)

    def _check(self, scope: Message) -> None:
        """Raise Refusal unless the caller may call this route."""
        needed = routes.scopes_of(scope["method"], scope["path"])
        if needed is routes.OPEN:
            return
        why = self._browsers.refusal(_header(scope, b"host") or "", _header(scope, b"origin"))
        if why:
            raise Refusal(403, "PERMISSION_DENIED", why)
        holder = self._holder(scope)
        if needed is None:
            raise Refusal(
                403,
                "PERMISSION_DENIED",
                f"the mesh does not use {scope['method']} {scope['path'][:100]!r} of MLflow, so it"
                " is refused to everybody",
            )
        if holder is None:
            if not (self._open_reads and routes.reads(needed)):
                raise Refusal(401, "UNAUTHENTICATED", "MLflow needs a token of the mesh here")
            return
        held = needed & holder.scopes
        if not held:
            raise Refusal(
                403,
                "PERMISSION_DENIED",
                f"this call needs one of the scopes {', '.join(sorted(needed))}; the token of"
                f" {holder.subject} has {' '.join(sorted(holder.scopes))}",
            )
        if not holder.all_models and not self._open_reads:
            raise Refusal(
                403,
                "PERMISSION_DENIED",
                f"MLflow shows every model, and the token of {holder.subject} is for some only",
            )

    def _holder(self, scope: Message) -> Holder | None:
        """Return who calls; None: nobody says so. Raises Refusal for a bad token."""
        given = _header(scope, b"authorization")
        if given is None:
            return None
        kind, _, token = given.partition(" ")
        try:
            if kind.lower() != "bearer":
                raise BadToken("the header authorization is not `Bearer TOKEN`")
            return self._tokens.holder(token.strip())
        except BadToken as error:
            raise Refusal(401, "UNAUTHENTICATED", str(error)) from error

    async def _with_checked_body(self, scope: Message, receive: Receive) -> Receive:
        """Return what reads the request's body; it is read here unless it is a file.

        Raises Refusal.
        """
        path = routes.plain_path(scope["path"])
        if scope["method"] in ("GET", "HEAD") or path.startswith(f"{routes.ARTIFACTS}/"):
            return receive
        body = await _read(receive)
        if path in FIELDS:
            try:
                body = self._places.checked(path, body)
            except BadPlace as error:
                raise Refusal(400, "INVALID_PARAMETER_VALUE", str(error)) from error
            length = str(len(body)).encode()
            kept = [(k, v) for k, v in scope["headers"] if k not in (b"content-length",)]
            scope["headers"] = [*kept, (b"content-length", length)]
        return _again(body, receive)


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refusal(400, "BAD_REQUEST", "the request ended before its body")
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            raise Refusal(413, "BAD_REQUEST", f"the body is longer than {LARGEST_BODY} bytes")
        if not message.get("more_body"):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what hands out a body that was read, and then whatever follows it."""
    unread = [body]

    async def again() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return again


def _header(scope: Message, name: bytes) -> str | None:
    """Return a header's value; None: there is none. A header that comes twice has a bad value."""
    found = [value for key, value in scope["headers"] if key == name]
    if not found:
        return None
    return b", ".join(found).decode("latin-1")


async def _answer(refusal: Refusal, send: Send) -> None:
    body = json.dumps({"error_code": refusal.code, "message": refusal.reason}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="champion-mesh"'))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
