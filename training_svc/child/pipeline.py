"""The steps of a job in its child process: fine-tune → evaluate → decide → register.

Each step leaves a file in the job's folder and is skipped when that file exists, so that an
interrupted job goes on with the step that it had reached.
"""

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service_kit.model_registry.mlflow_token import MlflowToken
from service_kit.signing.keys import SigningKey, TrustedKeys
from training_svc.base_models.hub_download import Limits, downloaded
from training_svc.child.mlflow_tracking import PACKAGED_ENCODER_NAME, MlflowTracker
from training_svc.child.registered_versions import RegisteredVersions
from training_svc.child.row_checks import CheckedRows
from training_svc.child.signed_model import SignedModel, about_version
from training_svc.jobs.job import Params
from training_svc.jobs.job_spec import JobSpec
from training_svc.learning.devices import choose_device
from training_svc.learning.evaluate import Evaluation, evaluate
from training_svc.learning.finetune import FineTuneParams, fine_tune
from training_svc.learning.golden_set import write_golden
from training_svc.learning.openvino_graph import try_export
from training_svc.learning.promotion_decision import Decision, decide
from training_svc.learning.trainer import Progress
from training_svc.learning.whole_files import sync, write_whole

log = logging.getLogger(__name__)

TRAINED_FILE = "trained.json"

Report = Callable[[dict[str, Any]], None]


class Pipeline:
    """The steps of one attempt of one job."""

    def __init__(
        self,
        spec: JobSpec,
        folder: Path,
        rows: CheckedRows,
        mlflow_url: str,
        report: Report,
        key: SigningKey | None = None,
        token: MlflowToken | None = None,
        keys: TrustedKeys | None = None,
    ) -> None:
        """`key` signs the version; None: it is not signed. `token` is sent to MLflow. `keys`: those
        with which other versions are trusted; None: any version is."""
        self._key = key
        self._token = token
        self._spec = spec
        self._folder = folder
        self._rows = rows
        self._report = report
        self._versions = RegisteredVersions(mlflow_url, spec.model, token, keys)
        self._mlflow_url = mlflow_url

    def run(self) -> None:
        """Carry out every step that is not done yet and report the decision."""
        self._check_device()
        self._versions.ensure_model()
        registered = self._versions.of_job(self._spec.job_id)
        if registered is None:
            tracker = MlflowTracker(
                self._mlflow_url, self._spec, self._folder, self._versions, self._token
            )
            self._report({"run_id": tracker.run_id})
            model_dir = self._fine_tuned(tracker)
            challenger, decision = self._judged(model_dir, "")
            version = self._registered(tracker, model_dir, challenger, decision)
        else:
            # An earlier attempt, or this one before an interruption, has registered the version.
            version = registered.version
            self._report({"run_id": registered.run_id})
            model_dir = self._folder / "model"
            if not (self._folder / TRAINED_FILE).exists():
                model_dir = self._versions.fetch(version, self._folder / "registered")
            _, decision = self._judged(model_dir, version)
        self._report({"version": version, "decision": asdict(decision)})

    def _check_device(self) -> None:
        device = choose_device()
        if self._spec.device == "cuda" and device.kind != "cuda":
            raise OSError("TRAINING_DEVICE is cuda, but torch finds no CUDA device now")
        self._report({"device": device.describe()})

    def _fine_tuned(self, tracker: MlflowTracker) -> Path:
        model_dir, noted = self._folder / "model", self._folder / TRAINED_FILE
        if noted.exists():
            return model_dir
        start_from = self._start_from()
        base_folder = "" if start_from else self._base_folder()
        result = fine_tune(
            self._rows.train.texts(),
            self._rows.train.labels(),
            self._rows.labels,
            _fine_tune_params(self._spec.params, base_folder),
            output_dir=model_dir,
            checkpoint_dir=_made(self._folder / "checkpoints"),
            start_from=start_from,
            on_progress=lambda progress: self._on_progress(tracker, progress),
            checkpoint_every_s=self._spec.checkpoint_seconds,
        )
        log.info(
            "fine-tuned",
            extra={
                "seconds": round(result.seconds, 1),
                "steps": result.total_steps,
                "resumed_from_step": result.resumed_from_step,
            },
        )
        sync(model_dir)
        write_whole(noted, json.dumps(asdict(result) | {"model_dir": str(model_dir)}))
        return model_dir

    def _base_folder(self) -> str:
        """The folder of the base model, empty for the packaged encoder."""
        spec = self._spec
        if not spec.base.hub_id:
            return spec.base.folder
        limits = Limits(spec.base_model_mib, spec.base_model_seconds)
        return str(downloaded(spec.base, Path(spec.base_models_dir), limits))

    def _start_from(self) -> Path | None:
        """The folder of the Champion to start from, None unless a warm start was asked for.

        The Champion's version is noted in a file, so that a resumed attempt starts from the same.
        """
        if not self._spec.params.warm_start:
            return None
        pinned = self._folder / "start_from.txt"
        if not pinned.exists():
            write_whole(pinned, self._versions.champion())
        version = pinned.read_text()
        return self._champion_dir(version) if version else None

    def _on_progress(self, tracker: MlflowTracker, progress: Progress) -> None:
        if not math.isfinite(progress.loss):
            raise ValueError(
                f"the training diverged at step {progress.step}: the loss is not a number; "
                "try a lower learning_rate"
            )
        self._report({"progress": asdict(progress)})
        tracker.log_progress(progress)

    def _judged(self, model_dir: Path, own_version: str) -> tuple[Evaluation, Decision]:
        """Evaluate challenger and present Champion on the same held-out rows, and decide.

        `own_version` is the version of the challenger, empty while it is not registered.
        """
        self._report({"state": "EVALUATING"})
        challenger = self._evaluated(model_dir, "challenger")
        self._report({"metrics": _metrics(challenger)})
        champion_version = self._versions.champion()
        if own_version and champion_version == own_version:
            # The job was interrupted after its promotion. Its challenger was compared with the
            # version that was Champion before.
            champion_version = self._versions.previous()
        champion = None
        if champion_version:
            champion_dir = self._champion_dir(champion_version)
            champion = self._evaluated(champion_dir, f"champion-{champion_version}")
        truth = self._rows.test.labels()
        decision = decide(
            _right(challenger, truth),
            _right(champion, truth) if champion else None,
            champion_version,
            p_value_limit=self._spec.promotion_p_value,
            promote=self._spec.promote,
            disagreement=_disagreement(challenger, champion) if champion else 0.0,
        )
        log.info("decided", extra={"outcome": decision.outcome, "reason": decision.reason})
        return challenger, decision

    def _evaluated(self, model_dir: Path, name: str) -> Evaluation:
        noted = self._folder / f"{name}.evaluation.json"
        if noted.exists():
            values = json.loads(noted.read_text())
            return Evaluation(**values | {"label_names": tuple(values["label_names"])})
        evaluation = evaluate(model_dir, self._rows.test.texts(), self._rows.test.labels())
        if not math.isfinite(evaluation.log_loss):
            raise ValueError(
                f"the {name} answers with scores that are no numbers; try a lower learning_rate"
            )
        write_whole(noted, json.dumps(asdict(evaluation)))
        return evaluation

    def _champion_dir(self, version: str) -> Path:
        return self._versions.fetch(version, self._folder / f"champion-{version}")

    def _registered(
        self, tracker: MlflowTracker, model_dir: Path, challenger: Evaluation, decision: Decision
    ) -> str:
        trained = json.loads((self._folder / TRAINED_FILE).read_text())
        base_model = self._spec.base.record or PACKAGED_ENCODER_NAME
        metrics = _metrics(challenger) | {"train_seconds": trained["seconds"]}
        if decision.champion_version:
            metrics["champion_accuracy"] = decision.champion_accuracy
        tracker.log_results(
            params=asdict(self._spec.params)
            | asdict(_fine_tune_params(self._spec.params, base_model))
            | {"labels": len(self._rows.labels)}
            | {key: trained[key] for key in ("epochs", "batch_size", "max_length", "device")},
            metrics=metrics,
            rows={
                "train": len(self._rows.train),
                "test": len(self._rows.test),
                "digest": self._rows.digest,
            },
        )
        # The files that a replica reads besides the weights; they are logged as they are here.
        extras = _made(self._folder / "extras")
        graph = try_export(model_dir, extras)
        write_golden(extras, model_dir, trained["max_length"], base_model, graph)
        about = about_version(
            *(self._spec.request_id, self._spec.job_id, self._rows.digest), asdict(decision)
        )
        files = SignedModel(self._spec.model, extras, about, self._key)
        return tracker.register(tracker.log_model(model_dir, files, self._spec.base.record))


def _fine_tune_params(params: Params, base_model: str) -> FineTuneParams:
    """The caller's parameters, with the recipe's default for each that was left to the service."""
    return FineTuneParams(
        base_model=base_model,
        epochs=params.epochs,
        batch_size=params.batch_size,
        learning_rate=params.learning_rate or FineTuneParams.learning_rate,
        max_length=params.max_length or FineTuneParams.max_length,
        seed=params.seed,
    )


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    return {
        "accuracy": evaluation.accuracy,
        "macro_f1": evaluation.macro_f1,
        "log_loss": evaluation.log_loss,
    }


def _right(evaluation: Evaluation, truth: Sequence[str]) -> list[bool]:
    return [given == true for given, true in zip(evaluation.predictions, truth, strict=True)]


def _disagreement(challenger: Evaluation, champion: Evaluation) -> float:
    pairs = list(zip(challenger.predictions, champion.predictions, strict=True))
    return sum(new != old for new, old in pairs) / len(pairs)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
