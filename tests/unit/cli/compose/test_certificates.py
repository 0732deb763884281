"""The certificates of a mesh in containers: who can read them, and what .env says of them."""

import socket
import stat
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from mesh.client import MeshClient
from mesh.errors import Unavailable
from mesh_cli.certificates.choice import TlsChoice
from mesh_cli.compose.certificates import SEEN_AT, TlsSettings
from mesh_cli.compose.initialise import Initialised, initialise
from mesh_cli.errors import CliError
from mesh_cli.main import app
from service_kit.certificates.authority import Authority
from service_kit.door_certificates.current_pair import current_pair
from tests.unit.cli.compose_command import ComposeCommand

OWN, GIVEN = "tls/served/own/certificate.json", "tls/served/given/certificate.json"


def init(project: Path, **environment: str) -> Initialised:
    return initialise(project, environment, 1234)


def names(project: Path) -> frozenset[str]:
    pair = current_pair(project / "secrets" / "tls" / "served" / "own")
    assert pair is not None
    return pair.names


def give(project: Path) -> bytes:
    """Put another authority's certificate where .env says, and return it."""
    chain, key = Authority.in_folder(project / "elsewhere").issue(["mesh.example"])
    (project / "c.pem").write_bytes(chain)
    (project / "k.pem").write_bytes(key)
    return chain


def test_only_the_owner_reads_them_and_envoy_finds_them_where_they_are_mounted(
    tmp_path: Path,
) -> None:
    made = init(tmp_path)
    assert made.certificates == dict.fromkeys(("tls/authority/ca.pem", OWN), "made")
    tls = tmp_path / "secrets" / "tls"
    for path in tls.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert f'"{SEEN_AT}/own/pair-' in (tmp_path / "secrets" / OWN).read_text()
    assert not [path for path in (tls / "served").rglob("*") if path.name == "ca-key.pem"]


def test_the_certificate_has_the_names_by_which_clients_come(tmp_path: Path) -> None:
    init(tmp_path)
    always = {"envoy", "localhost", "127.0.0.1", "::1", socket.gethostname()}
    assert names(tmp_path) == always
    (tmp_path / ".env").write_text("MESH_BIND=10.0.0.7\nMESH_TLS_NAMES='mesh.example, *.shop'\n")
    assert init(tmp_path).certificates[OWN] == "replaced"
    assert names(tmp_path) == always | {"10.0.0.7", "mesh.example", "*.shop"}
    assert init(tmp_path, MESH_BIND="0.0.0.0").certificates[OWN] == "kept"


def test_a_given_certificate_is_copied_as_often_as_it_changes(tmp_path: Path) -> None:
    give(tmp_path)
    (tmp_path / ".env").write_text("MESH_CERTIFICATE=c.pem\nMESH_KEY=k.pem\n")
    assert init(tmp_path).certificates[GIVEN] == "made"
    assert init(tmp_path).certificates[GIVEN] == "kept"
    chain = give(tmp_path)
    assert init(tmp_path).certificates[GIVEN] == "replaced"
    pair = current_pair(tmp_path / "secrets" / "tls" / "served" / "given")
    assert pair is not None
    assert pair.chain == chain


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    give(tmp_path)
    (tmp_path / ".env").write_text("MESH_CERTIFICATE=c.pem\n")
    with pytest.raises(CliError, match="MESH_CERTIFICATE and MESH_KEY go together"):
        init(tmp_path)
    (tmp_path / ".env").write_text("MESH_CERTIFICATE=c.pem\nMESH_KEY=missing.pem\n")
    with pytest.raises(CliError, match=r"missing\.pem cannot be read"):
        init(tmp_path)


def test_root_gives_them_to_the_containers_and_then_shows_them_to_envoy(tmp_path: Path) -> None:
    owners: dict[Path, tuple[int, int]] = {}
    shown: list[Path] = []

    def change_owner(path: Path, uid: int, gid: int) -> None:
        owners[path] = uid, gid
        if path.name.endswith(".again"):
            shown.append(path)
            assert {each for each in tls.rglob("*") if not each.name.endswith(".again")} <= set(
                owners
            ), "Envoy looks again when all files are readable"

    tls = tmp_path / "secrets" / "tls"
    initialise(tmp_path, {}, 0, change_owner)
    assert {*tls.rglob("*"), tls} <= set(owners)
    assert set(owners.values()) == {(50_000, 0)}
    assert len(shown) == 1
    assert not shown[0].exists()


@pytest.mark.parametrize("word", ["0", "false", "No", "OFF"])
def test_a_word_that_compose_takes_for_yes_is_not_taken_for_no(tmp_path: Path, word: str) -> None:
    (tmp_path / ".env").write_text(f"MESH_TLS={word}\n")
    with pytest.raises(CliError, match=f"MESH_TLS is '{word}': set it to 1, or leave it empty"):
        _ = TlsSettings(tmp_path, {}).on


def test_the_environment_comes_before_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MESH_TLS=1\n")
    assert TlsSettings(tmp_path, {}).on
    assert not TlsSettings(tmp_path, {"MESH_TLS": ""}).on


def test_a_choice_is_kept_in_the_env_file(tmp_path: Path) -> None:
    settings = TlsSettings(tmp_path, {})
    settings.choose(TlsChoice())
    assert not (tmp_path / ".env").exists()
    settings.choose(TlsChoice(True, Path("/etc/c.pem"), Path("/etc/k.pem")))
    assert settings.on
    assert "/etc/c.pem" in (tmp_path / ".env").read_text()
    settings.choose(TlsChoice(False))
    assert not settings.on


def unavailable(*_: object, **__: object) -> None:
    raise Unavailable("no TLS here")


def test_up_with_tls_and_the_verbs_after_it(
    compose: ComposeCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MESH_TLS", raising=False)
    plain = compose.json("up")
    assert (plain["ca"], plain["urls"]["mesh"]) == ("", f"http://{compose.address}")
    # The stub behind Envoy's port has no TLS, so that the command waits for no answer.
    monkeypatch.setattr(MeshClient, "get_fleet", unavailable)
    monkeypatch.setattr(MeshClient, "list_batches_page", unavailable)
    compose.json("up", "--tls")
    folder = compose.docker.folder
    assert "MESH_TLS=1" in (folder / ".env").read_text()
    status = compose.json("status")
    ca = folder / "secrets" / "tls" / "authority" / "ca.pem"
    assert status["urls"]["mesh"] == f"https://{compose.address}"
    assert status["urls"]["mlflow"].startswith("http://")
    assert {part["url"] for part in status["parts"] if part["name"] == "envoy"} == {
        f"https://{compose.address}"
    }
    assert status["ca"] == str(ca)
    x509.load_pem_x509_certificate(ca.read_bytes())
    assert str(ca) in compose("status").output.replace("\n", "")


@pytest.mark.parametrize(
    "options", [["--certificate", "c.pem"], ["--key", "k.pem"], ["--no-tls", "--certificate", "c",
                                                                 "--key", "k"]],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(options: list[str]) -> None:
    result = CliRunner().invoke(app, ["up", *options])
    assert result.exit_code != 0
    assert "--certificate" in str(result.exception)
