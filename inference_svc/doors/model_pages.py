"""Pages of the list of served models.

A page begins behind a name, not at a number, so models that come or go between two pages neither
hide others nor show them twice, and every replica can answer for any page.
"""

from collections.abc import Sequence

from inference_svc.serving.slots import ROLES, ServedVersion
from service_kit.errors import InvalidArgument
from service_kit.page_tokens import check_page_size, decode_page_token, encode_page_token

_QUERY = "ListModels"


def page_of(
    served: Sequence[ServedVersion], page_size: int, page_token: str
) -> tuple[list[ServedVersion], str]:
    """Return the page that a token asks for, and the token of the next one, "" after the last.

    `served` is ordered by model, Champion first. Raises InvalidArgument.
    """
    most = check_page_size(page_size)
    position = decode_page_token(page_token, _QUERY)
    behind = _place(position) if position else ("", -1)
    rest = [version for version in served if _place(_position(version)) > behind]
    page = rest[:most]
    token = encode_page_token(_QUERY, _position(page[-1])) if len(rest) > most else ""
    return page, token


def _position(version: ServedVersion) -> str:
    return f"{version.slot.model} {version.slot.role}"


def _place(position: str) -> tuple[str, int]:
    model, _, role = position.partition(" ")
    if role not in ROLES:
        raise InvalidArgument("page_token", "is not a token of this list")
    return model, ROLES.index(role)
