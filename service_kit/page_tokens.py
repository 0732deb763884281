"""Page tokens: opaque text in which a list method tells itself where the next page begins."""

import base64
import binascii
import hashlib

from service_kit.errors import InvalidArgument

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000
_MAX_TOKEN_CHARACTERS = 1_024
_DIGEST_BYTES = 8


def check_page_size(page_size: int, field: str = "page_size") -> int:
    """Return the most items of a page, 100 when `page_size` is 0.

    Raises InvalidArgument when it is negative or more than 1,000.
    """
    if not 0 <= page_size <= MAX_PAGE_SIZE:
        problem = f"is {page_size:,}; it must be 1 to {MAX_PAGE_SIZE:,}, or 0 for the default"
        raise InvalidArgument(field, problem)
    return page_size or DEFAULT_PAGE_SIZE


def encode_page_token(query: str, position: str) -> str:
    """Return a token for the page that begins after `position`.

    `query` says what the list is of, for example its method and its filters: a token is valid for
    the same query only. It needs no secret: whoever forges a token reaches only what the list
    shows anyway, so the caller has to check the position like any other input.
    """
    text = _digest(query, position) + position.encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def decode_page_token(token: str, query: str) -> str:
    """Return the position in a token; "" for an empty token, which asks for the first page.

    Raises InvalidArgument when the token does not come from this query, or was changed.
    """
    if not token:
        return ""
    try:
        if len(token) > _MAX_TOKEN_CHARACTERS:
            raise ValueError
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        content = base64.b64decode(padded, altchars=b"-_", validate=True)
        digest, position = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:].decode()
    except (ValueError, binascii.Error):
        digest, position = b"", ""
    if digest != _digest(query, position):
        problem = "is not a token of this list; send next_page_token of the same request as it came"
        raise InvalidArgument("page_token", problem)
    return position


def _digest(query: str, position: str) -> bytes:
    return hashlib.sha256(f"{query}\0{position}".encode()).digest()[:_DIGEST_BYTES]
