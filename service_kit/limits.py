"""The limits of the contract, and the checks that name them."""

import re
import uuid
from collections.abc import Sequence

from service_kit.errors import InvalidArgument

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
# Names and values of all headers of a request together, its path too; every door refuses more.
MAX_HEADER_BYTES = 16 * 1024
MAX_HEADERS = 100
# Services take a little more, since Envoy adds a dozen headers, and gRPC counts 32 bytes more for
# each header.
MAX_HEADER_BYTES_BEHIND_ENVOY = MAX_HEADER_BYTES + 8 * 1024
MAX_TEXTS = 1024
MAX_TEXT_CHARACTERS = 32_768
MAX_LABEL_CHARACTERS = 128
MAX_EXAMPLES = 10_000

_MODEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
# A request id becomes the id of an Airflow run, so it has to match the rule for those.
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.~:+-]{1,128}")


def check_model_name(name: str) -> str:
    """Return `name`, or raise InvalidArgument with the rule that it breaks."""
    if not _MODEL_NAME.fullmatch(name):
        raise InvalidArgument(
            "model", f"{_shown(name)} is not a model name; it must match [a-z][a-z0-9_]{{0,39}}"
        )
    return name


def check_request_id(request_id: str) -> str:
    """Return `request_id`, or a new id when it is empty. Raises InvalidArgument when malformed."""
    if not request_id:
        return str(uuid.uuid4())
    if not _REQUEST_ID.fullmatch(request_id):
        raise InvalidArgument(
            "request_id",
            f"{_shown(request_id)} does not match [A-Za-z0-9_.~:+-]{{1,128}}",
        )
    return request_id


def check_text(text: str, field: str) -> str:
    """Return `text`, or raise InvalidArgument when it is blank or longer than the limit."""
    if not text or text.isspace():
        raise InvalidArgument(field, "is blank; a text has 1 to 32,768 characters")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InvalidArgument(
            field, f"has {len(text):,} characters; a text has at most {MAX_TEXT_CHARACTERS:,}"
        )
    return text


def check_texts(texts: Sequence[str]) -> None:
    """Raise InvalidArgument unless there are 1 to 1,024 texts and each is within its limit."""
    if not texts:
        raise InvalidArgument("texts", f"is empty; send 1 to {MAX_TEXTS:,} texts")
    if len(texts) > MAX_TEXTS:
        raise InvalidArgument(
            "texts", f"has {len(texts):,} texts; send at most {MAX_TEXTS:,} a request"
        )
    for index, text in enumerate(texts):
        check_text(text, f"texts[{index}]")


def check_label(label: str, field: str) -> str:
    """Return `label`, or raise InvalidArgument when it is blank or longer than the limit."""
    if not label or label.isspace():
        raise InvalidArgument(field, "is blank; a label has 1 to 128 characters")
    if len(label) > MAX_LABEL_CHARACTERS:
        raise InvalidArgument(
            field, f"has {len(label):,} characters; a label has at most {MAX_LABEL_CHARACTERS}"
        )
    return label


def _shown(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:57] + "...")
