"""The download of a listed base model, from a hub on this machine."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.training.base_models.hub import COMMIT, MODEL, Hub, running
from training_svc.base_models.allow_list import BaseModel
from training_svc.base_models.hub_download import (
    HubUnavailable,
    Limits,
    downloaded,
    folder_of,
    remove_unlisted,
)
from training_svc.learning.base_model_error import BaseModelUnusable

BASE = BaseModel("ours", hub_id=MODEL, revision=COMMIT)
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights" * 1000,
    "tokenizer.json": b'{"of": "words"}',
}
DANGEROUS = {
    "pytorch_model.bin": b"a pickle",
    "modeling_own.py": b"code",
    "adapter_config.json": b"{}",
    "../outside.safetensors": b"",
    "onnx/model.safetensors": b"",
    "model.pkl": b"",
}

Download = Callable[..., Path]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running(Hub(files=FILES | DANGEROUS)) as started:
        yield started


@pytest.fixture
def download(hub: Hub, tmp_path: Path) -> Download:
    def now(mib: int = 1, seconds: float = 30.0, **environment: str) -> Path:
        return downloaded(
            BASE, tmp_path / "store", Limits(mib, seconds), {"HF_ENDPOINT": hub.url} | environment
        )

    return now


def test_only_weights_and_tokenizers_are_taken_and_only_once(hub: Hub, download: Download) -> None:
    folder = download()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == FILES
    requests = len(hub.asked)
    assert requests == 1 + len(FILES)
    assert download() == folder
    assert len(hub.asked) == requests


@pytest.mark.parametrize("variable", ["HUGGINGFACE_TOKEN", "HF_TOKEN", "HUGGINGFACE_TOKEN_FILE"])
def test_the_operators_token_goes_with_the_listed_model(
    hub: Hub, download: Download, variable: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("hf_own\n")
    value = str(tmp_path / "token") if variable.endswith("FILE") else "hf_own"
    download(**{variable: value})
    assert {authorization for _, authorization in hub.asked} == {"Bearer hf_own"}
    assert all(f"/{MODEL}/" in path for path, _ in hub.asked)


def test_a_model_above_the_limit_is_not_begun(hub: Hub, download: Download) -> None:
    hub.files |= {"model-2.safetensors": bytes(1 << 20)}
    with pytest.raises(BaseModelUnusable, match=r"at most 1 are downloaded.*BASE_MODEL_MIB"):
        download()
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"WEIGHTS" * 1000),  # another digest
        ("model.safetensors", b"weights" * 1001),  # longer than the list says
        ("model.safetensors", b"weights"),  # shorter
        ("config.json", b"[]"),
    ],
)
def test_a_file_that_is_not_what_the_list_says_is_refused(
    hub: Hub, download: Download, tmp_path: Path, name: str, content: bytes
) -> None:
    hub.delivered[name] = content
    with pytest.raises(HubUnavailable, match=f"another {name}"):
        download()
    assert list((tmp_path / "store").iterdir()) == []


def test_a_hub_that_trickles_is_left_after_the_limit(
    hub: Hub, download: Download, tmp_path: Path
) -> None:
    hub.trickles = threading.Event()
    started = time.monotonic()
    with pytest.raises(HubUnavailable, match=r"ended after 0\.5 s"):
        download(seconds=0.5)
    assert time.monotonic() - started < 10
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, BaseModelUnusable), (401, BaseModelUnusable), (503, HubUnavailable)],
)
def test_a_refusal_says_whether_another_attempt_helps(
    hub: Hub, download: Download, status: int, kind: type[Exception]
) -> None:
    hub.status = status
    with pytest.raises(kind, match=f"HTTP {status}"):
        download()


def test_a_model_without_safetensors_is_refused(hub: Hub, download: Download) -> None:
    hub.files = {"config.json": b"{}", "pytorch_model.bin": b"a pickle"}
    with pytest.raises(BaseModelUnusable, match="no weights as safetensors"):
        download()
    assert len(hub.asked) == 1


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"siblings": [{"rfilename": "config.json"}]}'])
def test_an_unreadable_list_is_said(
    hub: Hub, download: Download, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr(hub, "listing", lambda: answer)
    with pytest.raises(HubUnavailable, match="unreadable"):
        download()


def test_downloads_that_are_not_listed_any_more_are_removed(tmp_path: Path) -> None:
    other = BaseModel("other", hub_id="org/other", revision=COMMIT)
    for model in (BASE, other):
        folder_of(model, tmp_path).mkdir()
    remove_unlisted([BASE, BaseModel("folder", folder="/x")], tmp_path)
    assert list(tmp_path.iterdir()) == [folder_of(BASE, tmp_path)]
