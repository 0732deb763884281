"""Which authority the command trusts at which address."""

from pathlib import Path

import pytest

from mesh_cli.certificates.choice import TlsChoice
from mesh_cli.errors import BadInput
from mesh_cli.load.plan.spec import ClosedLoop, LoadSpec, spec_from_json
from mesh_cli.verbs import context
from tests.unit.cli.local.test_certificates import started

HERE, ELSEWHERE = "https://127.0.0.1:8000", "https://mesh.example:8000"


@pytest.fixture
def ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The file of a mesh with TLS on this machine."""
    for name in ("MESH_CA", "MESH_ADDRESS", "MESH_TLS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MESH_HOME", str(tmp_path))
    return str(started(tmp_path, TlsChoice(True)).ca)


def test_the_mesh_on_this_machine_is_known_by_its_own_authority(ca: str) -> None:
    assert context.ca(HERE) == ca
    assert context.ca("https://localhost:8000/") == ca


def test_another_machine_is_not(ca: str) -> None:
    assert context.ca(ELSEWHERE) is None


def test_without_tls_nothing_is_trusted(ca: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_CA", "/ca.pem")
    assert context.ca("127.0.0.1:8000") is None


def test_mesh_ca_goes_before(ca: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_CA", "/ca.pem")
    assert context.ca(HERE) == context.ca(ELSEWHERE) == "/ca.pem"


def test_a_mesh_that_was_never_up_names_no_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_HOME", str(tmp_path))
    monkeypatch.delenv("MESH_CA", raising=False)
    assert context.ca(HERE) is None


def test_what_is_no_address_is_bad_input() -> None:
    with pytest.raises(BadInput, match="is no address of a mesh"):
        context.has_tls("ftp://mesh:1")


def test_a_load_keeps_its_address_and_authority() -> None:
    spec = LoadSpec(ELSEWHERE, "reviews", ClosedLoop(1), ("x",), ca="/ca.pem")
    assert spec_from_json(spec.to_json()) == spec
    assert (spec.authority, spec.tls) == ("mesh.example:8000", True)
    for wrong in ("https://mesh", "http://mesh:1", "https://mesh:1/v1", "https://:1"):
        with pytest.raises(BadInput, match="is not host:port or https://host:port"):
            LoadSpec(wrong, "reviews", ClosedLoop(1), ("x",))
