"""`mesh init`: the files that it makes once, and who owns them."""

import base64
import json
import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mesh_cli.compose.compose_secrets import ComposeSecrets
from mesh_cli.compose.identities import FOLDER as IDENTITIES
from mesh_cli.compose.initialise import Initialised, initialise
from mesh_cli.errors import CliError
from mesh_cli.main import app
from service_kit.database_roles.names import LOGIN_ROLES

FILES = {
    "postgres_password",
    *(f"{role}.pgpass" for role in LOGIN_ROLES),
    "airflow_passwords.json",
    "airflow_jwt_secret",
    "airflow_fernet_key",
    "model-signing-key.pem",
    "model-signing-keys.pem",
    "control-plane-signing-key.pem",
    "control-plane-signing-keys.pem",
    "huggingface_token",
    "slack_url",
    "token-signing-key.pem",
    "token-keys.json",
    "operator.token",
    "airflow.token",
    "training.token",
    "trigger.token",
    "control-plane.token",
    "inference.token",
    "mlflow-cleaning.token",
}
CERTIFICATES = ("tls/authority/ca.pem", "tls/served/own/certificate.json")
FOR_CONTAINERS = FILES - {"token-signing-key.pem", "operator.token"}
OPERATOR = 1234


class Init:
    """Runs `initialise` in a folder, and keeps the owners that it gives to files."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.owners: dict[Path, tuple[int, int]] = {}

    def __call__(self, uid: int = OPERATOR, **environment: str) -> Initialised:
        def change_owner(path: Path, uid: int, gid: int) -> None:
            if IDENTITIES not in path.parts:
                self.owners[path] = uid, gid

        return initialise(self.project, environment, uid, change_owner)

    @property
    def secrets_owners(self) -> dict[str, tuple[int, int]]:
        """Owners of the files of the secrets alone, without those of the certificates."""
        folder = self.project / "secrets"
        found = {path: owner for path, owner in self.owners.items() if path.parent == folder}
        return {path.name: owner for path, owner in found.items() if path != folder / "tls"}

    def read(self, name: str) -> str:
        return (self.project / "secrets" / name).read_text()

    def contents(self) -> dict[str, str]:
        return {name: self.read(name) for name in FILES}

    def mode(self, name: str) -> int:
        return stat.S_IMODE((self.project / name).stat().st_mode)


@pytest.fixture
def init(tmp_path: Path) -> Init:
    return Init(tmp_path)


def test_everything_is_made_for_the_owner_only(init: Init) -> None:
    initialised = init()
    assert initialised.secrets == dict.fromkeys(FILES, "made")
    assert {path.name for path in (init.project / "secrets").iterdir()} == FILES | {
        "tls",
        IDENTITIES,
    }
    assert init.mode("secrets") == 0o700
    for name in (*(f"secrets/{name}" for name in FILES), ".env"):
        assert init.mode(name) == 0o600


def test_a_wide_umask_makes_no_file_wider(init: Init) -> None:
    before = os.umask(0)
    try:
        init()
    finally:
        os.umask(before)
    assert init.mode("secrets") == 0o700
    assert {init.mode(f"secrets/{name}") for name in FILES} == {0o600}


def test_the_second_time_nothing_changes(init: Init) -> None:
    init(HUGGINGFACE_TOKEN="hf_1")
    before, env = init.contents(), (init.project / ".env").stat()
    assert init() == Initialised(
        init.project / "secrets",
        dict.fromkeys(FILES, "kept"),
        {},
        dict.fromkeys(CERTIFICATES, "kept"),
    )
    assert init.contents() == before
    assert (init.project / ".env").stat() == env


def test_each_file_has_the_form_that_its_reader_wants(init: Init) -> None:
    init()
    passwords = {init.read("postgres_password")}
    for role in LOGIN_ROLES:
        *address, password = init.read(f"{role}.pgpass").removesuffix("\n").split(":")
        assert address == ["postgres", "5432", "*", role]
        passwords.add(password)
    [(user, airflow_password)] = json.loads(init.read("airflow_passwords.json")).items()
    assert user == "admin"
    passwords |= {airflow_password, init.read("airflow_jwt_secret")}
    assert len(passwords) == 9
    assert all(len(password) >= 32 and "\n" not in password for password in passwords)
    assert len(base64.urlsafe_b64decode(init.read("airflow_fernet_key"))) == 32
    assert ComposeSecrets(init.project / "secrets").airflow_password() == airflow_password


def test_tokens_are_taken_from_the_environment(init: Init) -> None:
    initialised = init(HUGGINGFACE_TOKEN="hf_1")
    assert initialised.secrets["huggingface_token"] == "made"
    assert (init.read("huggingface_token"), init.read("slack_url")) == ("hf_1", "")
    initialised = init(HUGGINGFACE_TOKEN="hf_1", SLACK_URL="https://hooks.example/x\n")
    assert (initialised.secrets["huggingface_token"], initialised.secrets["slack_url"]) == (
        "kept",
        "replaced",
    )
    assert (init.read("huggingface_token"), init.read("slack_url")) == (
        "hf_1",
        "https://hooks.example/x",
    )


def test_a_secret_that_an_operator_wrote_stays_and_becomes_private_again(init: Init) -> None:
    init()
    path = init.project / "secrets" / "huggingface_token"
    path.write_text("hf_by_hand\n")
    path.chmod(0o644)
    assert init().secrets["huggingface_token"] == "kept"
    assert path.read_text() == "hf_by_hand\n"
    assert init.mode("secrets/huggingface_token") == 0o600


def test_containers_run_as_the_operator(init: Init) -> None:
    assert init().env == {"MESH_UID": "1234", "MESH_GID": "0"}
    assert (init.project / ".env").read_text() == "MESH_UID=1234\nMESH_GID=0\n"
    assert init.owners == {}


def test_containers_of_root_run_as_another_user_who_owns_the_secrets(init: Init) -> None:
    assert init(uid=0).env == {"MESH_UID": "50000", "MESH_GID": "0"}
    assert init.secrets_owners == dict.fromkeys(FOR_CONTAINERS, (50_000, 0))


def test_root_gives_the_secrets_to_the_user_of_the_env_file(init: Init) -> None:
    (init.project / ".env").write_text('MESH_GID=0\nexport MESH_UID="77"\n')
    assert init(uid=0).env == {}
    assert init.secrets_owners == dict.fromkeys(FOR_CONTAINERS, (77, 0))
    (init.project / ".env").write_text("MESH_UID=nobody\nMESH_GID=0\n")
    with pytest.raises(CliError, match=r"MESH_UID=nobody .* numbers"):
        init(uid=0)


def test_the_folder_is_a_setting(init: Init, tmp_path: Path) -> None:
    (init.project / ".env").write_text("MESH_SECRETS=./elsewhere\n")
    assert init().folder == init.project / "elsewhere"
    assert {path.name for path in (init.project / "elsewhere").iterdir()} == FILES | {
        "tls",
        IDENTITIES,
    }
    initialised = init(MESH_SECRETS=str(tmp_path / "absolute"))
    assert initialised.folder == tmp_path / "absolute"
    assert set(initialised.secrets.values()) == {"made"}


def test_a_folder_that_cannot_be_written_is_named(init: Init) -> None:
    (init.project / "secrets").write_text("a file where the folder should be")
    with pytest.raises(CliError, match=r"secrets cannot be written .*run `mesh init` as the user"):
        init()


def test_an_env_file_that_cannot_be_written_is_named(init: Init) -> None:
    (init.project / ".env").mkdir()
    with pytest.raises(CliError, match=r"\.env cannot be read and written .*as the user"):
        init()


def test_an_owner_that_cannot_be_changed_is_an_error_that_says_why(init: Init) -> None:
    def refuse(path: Path, uid: int, gid: int) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    with pytest.raises(CliError, match=r"cannot be written \(Operation not permitted\)"):
        initialise(init.project, {}, 0, refuse)


def test_a_missing_airflow_password_names_the_verb_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="run `mesh init`"):
        ComposeSecrets(tmp_path).airflow_password()
    (tmp_path / "airflow_passwords.json").write_text("[]")
    with pytest.raises(CliError, match="names no password of admin"):
        ComposeSecrets(tmp_path).airflow_password()


def test_the_verb_says_what_it_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_COMPOSE_FOLDER", str(tmp_path))
    monkeypatch.setattr("mesh_cli.compose.initialise.os.chown", lambda *_: None)
    monkeypatch.delenv("HUGGINGFACE_TOKEN", raising=False)
    monkeypatch.delenv("SLACK_URL", raising=False)
    first = CliRunner().invoke(app, ["init"])
    assert first.exit_code == 0, first.output
    assert f"{tmp_path}/secrets/mesh_operator.pgpass: made\n" in first.stdout
    assert f"{tmp_path}/.env: added MESH_UID=" in first.stdout
    monkeypatch.setenv("SLACK_URL", "https://hooks.example/x")
    again = CliRunner().invoke(app, ["init"])
    assert f"{tmp_path}/secrets/mesh_operator.pgpass: was there\n" in again.stdout
    assert f"{tmp_path}/secrets/slack_url: replaced by what SLACK_URL holds\n" in again.stdout
    assert f"{tmp_path}/.env: was complete\n" in again.stdout
    document = json.loads(CliRunner().invoke(app, ["init", "--json"]).stdout)
    assert document == {
        "folder": f"{tmp_path}/secrets",
        "secrets": dict.fromkeys(FILES, "kept"),
        "certificates": dict.fromkeys(CERTIFICATES, "kept"),
        "env": {},
    }
    password = json.loads((tmp_path / "secrets" / "airflow_passwords.json").read_text())["admin"]
    assert password not in first.stdout + again.stdout
