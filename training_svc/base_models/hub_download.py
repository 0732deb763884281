"""Downloads a model of the list from the Hugging Face hub, once, bounded in size and time.

Only weights as safetensors and plain files of tokenizers are taken: no file that a library would
unpickle or run as code reaches this machine. Each file is checked against the hub's digest.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

import httpx

from training_svc.base_models.allow_list import BaseModel
from training_svc.learning.base_model_error import BaseModelUnusable
from training_svc.learning.whole_files import sync

log = logging.getLogger(__name__)

HUB = "https://huggingface.co"
TAKEN = re.compile(
    r"config\.json|model([.-][\w.-]{1,64})?\.safetensors|model\.safetensors\.index\.json"
    r"|(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json"
    r"|vocab\.txt|merges\.txt|(tokenizer|spiece|sentencepiece\.bpe)\.model"
)
MAX_FILES = 100  # taken files of a model
MAX_LIST_BYTES = 8 << 20  # of the hub's list of files
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 30.0
MIB = 1 << 20


class HubUnavailable(OSError):
    """The hub does not answer as it should; another attempt may succeed."""


class _TimeIsUp(BaseException):
    """Ends a download from outside; no library catches it."""


@dataclass(frozen=True)
class Limits:
    """What one download may take."""

    mib: int
    seconds: float


@dataclass(frozen=True)
class _File:
    name: str
    size: int  # bytes
    sha256: str  # of the contents, empty for a file that the hub keeps in git itself
    git_id: str  # git's SHA-1 of the contents, else empty


def downloaded(
    model: BaseModel, store: Path, limits: Limits, environment: Mapping[str, str] = os.environ
) -> Path:
    """Return the folder of the hub model within `store`; it is downloaded unless it is there.

    Raises BaseModelUnusable, or HubUnavailable.
    """
    folder = folder_of(model, store)
    if folder.is_dir():
        return folder
    part = store / f"{folder.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    started = time.monotonic()
    try:
        with _deadline(limits.seconds), _client(environment) as client:
            _download(client, environment.get("HF_ENDPOINT") or HUB, model, part, limits)
        sync(part)
        part.rename(folder)
    except _TimeIsUp as error:
        raise HubUnavailable(
            f"the download of base model {model.name} was ended after {limits.seconds:g} s "
            "(TRAINING_BASE_MODEL_SECONDS)"
        ) from error
    except httpx.HTTPStatusError as error:
        raise _refusal(model, error.response.status_code) from error
    except httpx.HTTPError as error:
        raise HubUnavailable(
            f"the hub did not deliver base model {model.name}: {type(error).__name__}"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    log.info(
        "base model downloaded",
        extra={"base_model": model.record, "seconds": round(time.monotonic() - started, 1)},
    )
    return folder


def folder_of(model: BaseModel, store: Path) -> Path:
    """Where the hub model lies after its download."""
    return store / f"{model.hub_id.replace('/', '--')}@{model.revision}"


def remove_unlisted(models: Iterable[BaseModel], store: Path) -> None:
    """Remove the downloads of models that are not in the list any more."""
    listed = {folder_of(model, store) for model in models if model.hub_id}
    for folder in set(store.glob("*@*")) - listed:
        shutil.rmtree(folder, ignore_errors=True)


def _download(
    client: httpx.Client, hub: str, model: BaseModel, folder: Path, limits: Limits
) -> None:
    files = _files(client, hub, model)
    if not any(file.name.endswith(".safetensors") for file in files):
        raise BaseModelUnusable(
            f"base model {model.name} has no weights as safetensors at its revision; "
            "other formats can run code and are not read"
        )
    size = sum(file.size for file in files)
    if size > limits.mib * MIB:
        raise BaseModelUnusable(
            f"base model {model.name} has {size / MIB:,.0f} MiB; at most {limits.mib:,} are "
            "downloaded (TRAINING_BASE_MODEL_MIB)"
        )
    for file in files:
        url = f"{hub}/{model.hub_id}/resolve/{model.revision}/{quote(file.name)}"
        _fetch(client, url, file, folder / file.name)


def _files(client: httpx.Client, hub: str, model: BaseModel) -> list[_File]:
    """The files of the model at its revision that are taken."""
    url = f"{hub}/api/models/{model.hub_id}/revision/{model.revision}?blobs=true"
    body = bytearray()
    with client.stream("GET", url) as response:
        response.raise_for_status()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > MAX_LIST_BYTES:
                raise BaseModelUnusable(f"the hub's list of files of {model.name} is too long")
    try:
        listed = [_file(entry) for entry in json.loads(body)["siblings"]]
    except (ValueError, KeyError, TypeError) as error:
        raise HubUnavailable(f"the hub's list of files of {model.name} is unreadable") from error
    files = [file for file in listed if TAKEN.fullmatch(file.name)]
    if len(files) > MAX_FILES:
        raise BaseModelUnusable(
            f"base model {model.name} has {len(files)} files of weights; "
            f"at most {MAX_FILES} are read"
        )
    return files


def _file(entry: Mapping[str, Any]) -> _File:
    large = entry.get("lfs") or {}
    return _File(
        name=str(entry["rfilename"]),
        size=int(large.get("size") or entry["size"]),
        sha256=str(large.get("sha256", "")),
        git_id="" if large else str(entry["blobId"]),
    )


def _fetch(client: httpx.Client, url: str, file: _File, path: Path) -> None:
    """Write the file at `url`. Raises HubUnavailable unless it is what the hub's list says."""
    digest = hashlib.sha256()
    if file.git_id:
        digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    received = 0
    with client.stream("GET", url) as response, path.open("xb") as written:
        response.raise_for_status()
        for chunk in response.iter_bytes():
            received += len(chunk)
            if received > file.size:
                break
            digest.update(chunk)
            written.write(chunk)
    if received != file.size or digest.hexdigest() != (file.sha256 or file.git_id):
        raise HubUnavailable(f"the hub delivered another {file.name} than its list says")


def _client(environment: Mapping[str, str]) -> httpx.Client:
    token = hub_token(environment)
    return httpx.Client(
        # A redirect to another host is followed without the token; httpx sees to it.
        follow_redirects=True,
        headers={"authorization": f"Bearer {token}"} if token else {},
        timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
    )


def hub_token(environment: Mapping[str, str]) -> str | None:
    """The hub's token, from HUGGINGFACE_TOKEN, HF_TOKEN or the file HUGGINGFACE_TOKEN_FILE.

    Raises OSError when that file cannot be read.
    """
    token = environment.get("HUGGINGFACE_TOKEN") or environment.get("HF_TOKEN")
    file = environment.get("HUGGINGFACE_TOKEN_FILE")
    if not token and file:
        token = Path(file).read_text().strip()
    return token or None


def _refusal(model: BaseModel, status: int) -> Exception:
    if status in (401, 403, 404):
        return BaseModelUnusable(
            f"the hub has no model {model.record}, or the service's hub token does not open it "
            f"(HTTP {status})"
        )
    return HubUnavailable(f"the hub answered HTTP {status} for base model {model.name}")


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise _TimeIsUp in the main thread, wherever it waits, after these seconds."""

    def end(number: int, frame: FrameType | None) -> None:
        raise _TimeIsUp

    handler = signal.signal(signal.SIGALRM, end)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.signal(signal.SIGALRM, handler)
