"""Tokens of the mesh itself: the operator's, which the command sends, and those of its parts."""

import time
from collections.abc import Callable
from pathlib import Path

import jwt

from mesh_cli.tokens.grant import DAY_S, SCOPES, Grant, Token
from mesh_cli.tokens.key_files import write_in_place
from mesh_cli.tokens.signing_keys import SigningKeys
from service_kit.mlflow_gate import routes

LIFE_S = 365 * DAY_S
OPERATOR_FILE, AIRFLOW_FILE = "operator.token", "airflow.token"
TRAINING_FILE, TRIGGER_FILE = "training.token", "trigger.token"
CONTROL_PLANE_FILE, INFERENCE_FILE = "control-plane.token", "inference.token"
CLEANING_FILE = "mlflow-cleaning.token"
GRANTS = {
    OPERATOR_FILE: Grant("operator", (*SCOPES, routes.WRITE)),
    AIRFLOW_FILE: Grant("airflow", ("train", "release", "view")),
    # These hold at MLflow only.
    TRAINING_FILE: Grant("training", (routes.TRAIN,)),
    TRIGGER_FILE: Grant("trigger", (routes.CREATE,)),
    CONTROL_PLANE_FILE: Grant("control-plane", (routes.SERVE,)),
    INFERENCE_FILE: Grant("inference", (routes.READ,)),
    CLEANING_FILE: Grant("mlflow-cleaning", (routes.CLEAN,)),
}


class OwnTokens:
    """The files of these tokens in the folder of the secrets."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self.keys = SigningKeys(folder, clock)

    @property
    def operator(self) -> str:
        """The operator's token; empty when there is none here that this user may read."""
        try:
            return (self._folder / OPERATOR_FILE).read_text().strip()
        except (FileNotFoundError, PermissionError):
            return ""

    def make(self) -> list[str]:
        """Make the keys and tokens that are missing; return the names of the files made.

        A token of which half its life is over, or that another key has signed, is replaced.
        Raises CliError.
        """
        made = [self.keys.private_file.name] if not self.keys.private_file.exists() else []
        if not self.keys.public_file.exists():
            made.append(self.keys.public_file.name)
        self.keys.make()
        for name in GRANTS:
            if not self._is_fresh(name):
                self.renew(name)
                made.append(name)
        return made

    def renew(self, name: str) -> Token:
        """Write a new token into the file `name`. Raises CliError."""
        token = self.keys.sign(GRANTS[name], LIFE_S)
        write_in_place(self._folder / name, token.text)
        return token

    def named(self, token_id: str) -> tuple[str, int] | None:
        """File and end (seconds since 1970) of the token with an id; None: it is not here."""
        for name in GRANTS:
            claims = self._claims(name)
            if claims.get("jti") == token_id:
                return name, int(claims["exp"])
        return None

    def _is_fresh(self, name: str) -> bool:
        claims = self._claims(name)
        if not claims or claims.get("scope") != " ".join(GRANTS[name].scopes):
            return False
        if not self.keys.signed_here((self._folder / name).read_text().strip()):
            return False
        return bool(int(claims["exp"]) - self._clock() > LIFE_S / 2)

    def _claims(self, name: str) -> dict[str, int | str]:
        """What the token in a file says, unchecked; nothing when there is no token."""
        path = self._folder / name
        try:
            claims: dict[str, int | str] = jwt.decode(
                path.read_text().strip(), options={"verify_signature": False}
            )
        except (FileNotFoundError, jwt.InvalidTokenError):
            return {}
        return claims
