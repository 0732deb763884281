"""The OpenVINO engine computes what torch does, from the graph that training exports."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inference_svc.engines.base import Engine, EngineUnavailable
from inference_svc.engines.choice import create_engine
from inference_svc.model.loaded_model import LoadedModel
from inference_svc.model.model_files import (
    GOLDEN_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FOLDER,
    InvalidModel,
    read_pad_id,
    read_spec,
)
from inference_svc.model.text_tokenizer import TextTokenizer
from inference_svc.versions.golden_check import check_golden_set
from tests.twins.replica import write_golden, write_model
from training_svc.learning import openvino_graph as graphs

TEXTS = ["a " * (1 + 7 * n % 60) + ("good film" if n % 2 else "awful word") for n in range(64)]

CHILD = """
import sys
from inference_svc.engines.choice import create_engine
from inference_svc.main import make_service
from inference_svc.settings import InferenceSettings
from pathlib import Path
from inference_svc.model.packing import blank
service = make_service(InferenceSettings(device="cpu", state_dir=Path(sys.argv[1]) / "state"))
engine = create_engine("auto", "cpu", "auto", 1)
folder = Path(sys.argv[1])
classifier = engine.load(folder / "model", folder / "openvino" / "model.xml")
assert classifier.run_packed(blank(2, 64)).shape == (8, 2)
heavy = {"torch", "transformers", "mlflow", "openvino_telemetry", "pandas", "scipy"}
print(sorted(name for name in heavy if sys.modules.get(name)))
"""


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("version"), with_graph=True)


def load(engine: Engine, folder: Path) -> LoadedModel:
    spec = read_spec(folder)
    return LoadedModel(
        spec,
        read_pad_id(folder, spec),
        TextTokenizer(folder / TOKENIZER_FILE, spec.max_tokens),
        engine.load(folder / WEIGHTS_FOLDER, folder / spec.graph if spec.graph else None),
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_openvino_gives_the_probabilities_of_torch(version: Path, precision: str) -> None:
    reference = load(create_engine("torch", "cpu", "fp32", 1), version)
    model = load(create_engine("openvino", "cpu", precision, 1), version)
    assert model.classifier.engine == f"openvino {precision}"
    for count in (1, 2, 3, 7, 8, 20, 64):
        tokens = model.tokenizer.encode(TEXTS[:count])
        off = np.abs(model.run(tokens).scores - reference.run(tokens).scores).max()
        assert off <= model.classifier.score_tolerance
    check_golden_set(model)


def test_scores_are_not_overwritten_by_the_next_batch(version: Path) -> None:
    model = load(create_engine("openvino", "cpu", "fp32", 1), version)
    first = model.run(model.tokenizer.encode(["a good film"])).scores
    before = first.copy()
    model.run(model.tokenizer.encode(["a bad bad film"]))
    assert (first == before).all()


def test_version_without_graph_is_run_by_torch(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "old")
    model = load(create_engine("auto", "cpu", "fp32", 1), folder)
    assert model.classifier.engine == "torch fp32"
    check_golden_set(model)
    with pytest.raises(EngineUnavailable, match="no OpenVINO graph"):
        load(create_engine("openvino", "cpu", "fp32", 1), folder)


def test_graph_that_cannot_be_loaded_is_left_to_torch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_model(tmp_path / "new", with_graph=True)
    engine = create_engine("auto", "cpu", "fp32", 1)
    assert load(engine, folder).classifier.engine == "openvino fp32"
    (folder / read_spec(folder).graph).write_text("<net version='99'/>")
    with caplog.at_level(logging.WARNING):
        assert load(engine, folder).classifier.engine == "torch fp32"
    assert "the graph cannot be loaded" in caplog.text


@pytest.mark.parametrize("file", ["../model/model.xml", "/etc/model.xml", "openvino/model.bin"])
def test_graph_outside_the_version_is_refused(tmp_path: Path, file: str) -> None:
    write_golden(tmp_path, ("a", "b"), [], {"format": "openvino-ir", "file": file})
    with pytest.raises(InvalidModel, match="not inside the version"):
        read_spec(tmp_path)


def test_graph_of_another_format_is_as_none(tmp_path: Path) -> None:
    write_golden(tmp_path, ("a", "b"), [], {"format": "later", "file": "x"})
    assert read_spec(tmp_path).graph == ""


def test_openvino_is_for_the_cpu_only() -> None:
    with pytest.raises(EngineUnavailable, match="not on 'cuda:0'"):
        create_engine("openvino", "cuda:0", "auto", 1)


def test_without_torch_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "inference_svc.engines.torch_engine", raising=False)
    with pytest.raises(EngineUnavailable, match="torch is not installed here"):
        create_engine("torch", "cpu", "auto", 1)


def test_replica_imports_neither_torch_nor_mlflow_when_there_is_a_graph(version: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(version)],
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.stdout.strip() == "[]", child.stderr


def test_graph_is_exported_once(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr("openvino.convert_model", refuse)
    graph = graphs.try_export(version / WEIGHTS_FOLDER, version)
    assert graph is not None
    assert graph == json.loads((version / GOLDEN_FILE).read_text())["graph"]
    assert sorted(path.name for path in (version / "openvino").iterdir()) == [
        "model.bin",
        "model.xml",
    ]


def test_failed_export_is_a_warning_and_leaves_nothing(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr("openvino.convert_model", fail)
    with caplog.at_level(logging.WARNING):
        assert graphs.try_export(version / WEIGHTS_FOLDER, tmp_path) is None
    assert "no graph for OpenVINO" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_graph_that_computes_wrongly_is_not_kept(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "TOLERANCE", -1.0)
    assert graphs.try_export(version / WEIGHTS_FOLDER, tmp_path) is None
    assert list(tmp_path.iterdir()) == []
