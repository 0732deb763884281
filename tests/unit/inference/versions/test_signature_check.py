"""What a replica refuses because it is not as the training service signed it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from inference_svc.versions.cache import ModelCache
from inference_svc.versions.identity import VersionId, VersionInfo
from inference_svc.versions.signature_check import SignatureCheck
from service_kit.signing.keys import SignatureRefused, TrustedKeys
from service_kit.signing.manifest import MANIFEST_FILE
from tests.twins.replica import FakeRegistry
from tests.twins.signing import make_key, sign_version

SOURCE = "models:/m-1"
INFO = VersionInfo("reviews", "3", "run-1", "batch-1", SOURCE)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    folder = tmp_path / "version"
    (folder / "model").mkdir(parents=True)
    (folder / "golden.json").write_text("{}")
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    private, _ = make_key(tmp_path / "keys")
    sign_version(folder, private, INFO.name, SOURCE, INFO.run_id)
    return folder


@pytest.fixture
def check(tmp_path: Path) -> SignatureCheck:
    keys = TrustedKeys(tmp_path / "keys" / "model-keys.pem")
    return SignatureCheck(keys, ignored=("mesh-version.json",))


def test_a_version_as_it_was_signed_passes_also_without_its_weights(
    version: Path, check: SignatureCheck
) -> None:
    check.check(INFO, version)
    (version / "mesh-version.json").write_text("{}")
    (version / "model" / "model.safetensors").unlink()
    check.check(INFO, version)


def alter(folder: Path) -> None:
    (folder / "model" / "model.safetensors").write_bytes(b"Weights")


def add(folder: Path) -> None:
    (folder / "model" / "pytorch_model.bin").write_bytes(b"pickle")


def remove(folder: Path) -> None:
    (folder / "golden.json").unlink()


def link(folder: Path) -> None:
    (folder / "golden.json").unlink()
    (folder / "golden.json").symlink_to("/etc/passwd")


def unsign(folder: Path) -> None:
    (folder / MANIFEST_FILE).unlink()


def sign_oneself(folder: Path) -> None:
    private, _ = make_key(folder.parent / "stranger")
    sign_version(folder, private, INFO.name, SOURCE, INFO.run_id)


def sign_nothing(folder: Path) -> None:
    bundle = json.loads((folder / MANIFEST_FILE).read_text())
    bundle["dsseEnvelope"]["signatures"] = []
    (folder / MANIFEST_FILE).write_text(json.dumps(bundle))


def garble(folder: Path) -> None:
    (folder / MANIFEST_FILE).write_bytes(b"\xff{")


def inflate(folder: Path) -> None:
    (folder / MANIFEST_FILE).write_bytes(b" " * (1 << 20) + b"{}")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (alter, "was altered after it was signed"),
        (add, "was added after it was signed"),
        (remove, "which it had, is gone"),
        (link, "is no plain file"),
        (unsign, "it is not signed"),
        (sign_oneself, "is not in"),
        (sign_nothing, "no DSSE envelope"),
        (garble, "malformed"),
        (inflate, "has more than"),
    ],
)
def test_what_is_not_as_it_was_signed_is_refused_with_the_reason(
    version: Path, check: SignatureCheck, change: Callable[[Path], None], why: str
) -> None:
    change(version)
    with pytest.raises(SignatureRefused, match=why):
        check.check(INFO, version)


@pytest.mark.parametrize(
    ("info", "why"),
    [
        (replace(INFO, name="films"), "for the model 'reviews', not 'films'"),
        (replace(INFO, source="models:/m-9"), "for the source 'models:/m-1', not 'models:/m-9'"),
        (replace(INFO, run_id="run-9"), "for the run 'run-1', not 'run-9'"),
    ],
    ids=["model", "source", "run"],
)
def test_files_that_were_signed_as_another_version_are_refused(
    version: Path, check: SignatureCheck, info: VersionInfo, why: str
) -> None:
    with pytest.raises(SignatureRefused, match=why):
        check.check(info, version)


def test_without_keys_nothing_is_asked_for(version: Path) -> None:
    unsign(version)
    SignatureCheck().check(INFO, version)


async def test_a_cached_version_that_was_altered_is_downloaded_anew(
    version: Path, tmp_path: Path
) -> None:
    registry = FakeRegistry()
    registry.add("reviews", "3", version)
    found = await registry.get_version("reviews", "3")
    private, public = make_key(tmp_path / "keys")
    sign_version(version, private, "reviews", found.source, found.run_id)
    cache = ModelCache(tmp_path / "cache", 2, TrustedKeys(public))
    cache.open()
    wanted = VersionId("3", found.source)
    fetched = await cache.fetch(registry, "reviews", wanted)
    assert fetched.fresh
    assert not (await cache.fetch(registry, "reviews", wanted)).fresh
    alter(fetched.folder)
    assert (await cache.fetch(registry, "reviews", wanted)).fresh
    # A key that is trusted no more is not trusted for what the cache holds either.
    public.write_text(make_key(tmp_path / "stranger")[1].read_text())
    with pytest.raises(SignatureRefused, match="is not in"):
        await cache.fetch(registry, "reviews", wanted)
