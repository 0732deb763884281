"""Writes a trained model in MLflow's layout, with the files that a replica needs and, given a key,
its signed manifest. All of it is signed before any of it leaves this machine."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow.models import Model

from service_kit.signing.keys import SigningKey
from service_kit.signing.manifest import MANIFEST_FILE, Manifest, digests

# The parts of a decision that the manifest keeps.
_DECISION = ("outcome", "reason", "champion_version", "p_value")


class SignedModel:
    """What mlflow.models.Model.log takes as a flavor: it has the function `save_model`."""

    __name__ = mlflow.transformers.__name__

    def __init__(
        self,
        model: str,
        extras: Path,
        about: Mapping[str, Any],
        key: SigningKey | None,
    ) -> None:
        """`extras`: folder of the files that are logged beside those of MLflow's flavor."""
        self._model = model
        self._extras = extras
        self._about = about
        self._key = key

    def save_model(self, path: str, mlflow_model: Model, **options: Any) -> None:
        """Write the model to the folder `path`; see mlflow.transformers.save_model."""
        mlflow.transformers.save_model(path=path, mlflow_model=mlflow_model, **options)
        folder = Path(path)
        shutil.copytree(self._extras, folder, dirs_exist_ok=True)
        if self._key is None:
            return
        manifest = Manifest(
            self._model,
            source_of(str(mlflow_model.model_id)),
            str(mlflow_model.run_id),
            digests(folder),
            self._about,
        )
        (folder / MANIFEST_FILE).write_bytes(manifest.signed(self._key))


def source_of(model_id: str) -> str:
    """Return where the registry says that the files of a logged model lie."""
    return f"models:/{model_id}"


def about_version(
    batch_id: str, job_id: str, rows_digest: str, decision: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the manifest says about a version besides its identity."""
    kept = {name: decision[name] for name in _DECISION if name in decision}
    about = {"batch_id": batch_id, "job_id": job_id, "rows_digest": rows_digest}
    # The manifest is JSON, so values that JSON does not have are refused here.
    json.dumps(kept, allow_nan=False)
    return {**about, "decision": kept}
