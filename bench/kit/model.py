"""The model that is measured; `python -m bench.kit.model` makes it anew.

Speed does not depend on what the model has learned, but peers are checked for the same labels. So
the training service's own code fine-tunes it once, on the packaged reviews.
"""

import csv
import os
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

from rich.console import Console

from mesh_cli.local.home import MeshHome, MeshSettings

MODEL = "reviews"
EPOCHS = 3
BUILD = Path(__file__).parents[2] / "build" / "bench"

progress = Console(stderr=True)


def model_folder(name: str = "") -> Path:
    """Folder of a version of the model `name`: the newest that a replica of the local mesh holds.

    Without a name: the benches' own model, which is made if need be. Raises FileNotFoundError when
    no replica holds a version of `name`.
    """
    if name:
        return _cached(name)
    folder = BUILD / "model"
    if not folder.exists():
        # In a child process, so that torch and its settings stay out of this one. PASSIVE: threads
        # that spin at barriers make it ten times slower beside other processes that compute.
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
        with progress.status("the model is fine-tuned, about a minute"):
            subprocess.run([sys.executable, "-m", "bench.kit.model"], env=environment, check=True)
    return folder


def _cached(name: str) -> Path:
    root = MeshHome(MeshSettings().home).root
    versions = [path.parent for path in root.glob(f"replica-*/models/{name}/*/golden.json")]
    if not versions:
        raise FileNotFoundError(f"no replica below {root} holds a version of {name}")
    return max(versions, key=lambda path: path.stat().st_mtime)


def _make(folder: Path) -> None:
    # Imported here, as they take seconds and are only needed to make the model.
    from training_svc.child.mlflow_tracking import PACKAGED_ENCODER_NAME
    from training_svc.learning.finetune import FineTuneParams, fine_tune
    from training_svc.learning.golden_set import write_golden
    from training_svc.learning.openvino_graph import try_export

    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    weights = partial / "model"
    weights.mkdir(parents=True)
    texts, labels = _rows("reviews_first.csv", "reviews_more.csv")
    trained = fine_tune(
        texts,
        labels,
        sorted(set(labels)),
        FineTuneParams(epochs=EPOCHS),
        output_dir=weights,
        checkpoint_dir=partial / "checkpoints",
    )
    tokenizer = partial / "components" / "tokenizer"
    tokenizer.mkdir(parents=True)
    for file in weights.glob("tokenizer*"):
        shutil.copy(file, tokenizer)
    graph = try_export(weights, partial)
    write_golden(partial, weights, trained.max_length, PACKAGED_ENCODER_NAME, graph)
    shutil.rmtree(partial / "checkpoints", ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _rows(*names: str) -> tuple[list[str], list[str]]:
    folder = resources.files("mesh_cli") / "sample_data"
    rows = [
        row
        for name in names
        for row in csv.DictReader((folder / name).read_text("utf-8").splitlines())
    ]
    return [row["text"] for row in rows], [row["label"] for row in rows]


if __name__ == "__main__":
    _make(BUILD / "model")
