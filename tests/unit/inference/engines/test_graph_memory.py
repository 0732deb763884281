"""A version holds its weights once: what is changed in a graph, and that its answers stay."""

import gc
from pathlib import Path

import numpy as np
import openvino
import pytest

from inference_svc.engines import graph_memory, openvino_engine, working_memory
from inference_svc.engines.base import WeightsMissing
from inference_svc.engines.choice import create_engine
from inference_svc.engines.graph_memory import change
from inference_svc.engines.mapped_weights import MappedWeights
from inference_svc.engines.openvino_engine import OpenVinoEngine
from inference_svc.engines.working_memory import WorkingMemory
from inference_svc.model.packing import blank, lay_out, pack
from tests.twins.replica import write_model

LENGTHS = (3, 17, 5, 30, 9)


@pytest.fixture(scope="module", params=["packing", "padding"])
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version's graph: of BERT, which packs texts, or of a model that takes one text a row."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "packing":
        return write_model(folder, with_graph=True) / "openvino" / "model.xml"
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    from training_svc.learning.openvino_graph import try_export

    config = DistilBertConfig(vocab_size=50, dim=32, n_layers=2, n_heads=2, hidden_dim=64)
    DistilBertForSequenceClassification(config).save_pretrained(folder / "model")
    assert try_export(folder / "model", folder) is not None
    return folder / "openvino" / "model.xml"


@pytest.fixture(autouse=True)
def every_table_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_memory, "_LEAST_TABLE_BYTES", 1)


def batch(inputs: int) -> tuple[np.ndarray, ...]:
    if inputs == 4:
        rng = np.random.default_rng(0)
        texts = [list(rng.integers(0, 14, length)) for length in LENGTHS]
        return tuple(pack(texts, lay_out(LENGTHS), 0))
    ids = np.arange(14, dtype=np.int64).reshape(2, 7)
    return ids, np.ones_like(ids)


def unchanged_scores(graph: Path) -> np.ndarray:
    exact = {"INFERENCE_PRECISION_HINT": openvino.Type.f32}
    compiled = openvino.Core().compile_model(graph, "CPU", exact)
    scores: np.ndarray = compiled(list(batch(len(compiled.inputs))))[0]
    return scores


def test_a_changed_graph_gives_the_same_scores(graph: Path) -> None:
    classifier = OpenVinoEngine("fp32", 1).load(graph.parent, graph)
    assert classifier._table is not None
    wanted = unchanged_scores(graph)
    packs = hasattr(classifier, "run_packed")
    scores = classifier._infer(*batch(4 if packs else 2))
    assert np.abs(scores - wanted).max() < 1e-6


def test_every_product_stands_alone_on_fp32(graph: Path) -> None:
    core = openvino.Core()
    weights = MappedWeights(graph.with_suffix(".bin"))
    model = core.read_model(graph.read_text(), openvino.Tensor(weights.bytes, shared_memory=True))
    changed = change(model, weights, "fp32")
    compiled = core.compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": openvino.Type.f32, "INFERENCE_NUM_THREADS": 1}
    )
    assert changed.table is not None
    assert weights.holds(weights.view(changed.table))
    joined = [
        names
        for node in compiled.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].astype(str) == "FullyConnected"
        and "," in (names := node.get_rt_info()["originalLayersNames"].astype(str))
    ]
    assert not joined


def test_bf16_keeps_its_products_joined(graph: Path) -> None:
    weights = MappedWeights(graph.with_suffix(".bin"))
    model = openvino.Core().read_model(
        graph.read_text(), openvino.Tensor(weights.bytes, shared_memory=True)
    )
    before = len(model.inputs)
    assert change(model, weights, "bf16").constants == []
    assert len(model.inputs) == before + 1


def test_a_version_answers_after_its_files_are_gone_and_its_memory_was_given_back(
    graph: Path, tmp_path: Path
) -> None:
    for file in graph.parent.glob("model.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    classifier = OpenVinoEngine("fp32", 1).load(tmp_path, tmp_path / "model.xml")
    arrays = batch(4 if hasattr(classifier, "run_packed") else 2)
    before = classifier._infer(*arrays)
    for file in tmp_path.glob("model.*"):
        file.unlink()
    classifier.release_working_memory()
    classifier.release_pages()
    gc.collect()
    assert (classifier._infer(*arrays) == before).all()


def test_a_missing_file_of_weights_is_told_apart_from_a_damaged_one(
    graph: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.xml").write_text(graph.read_text())
    engine = OpenVinoEngine("fp32", 1)
    with pytest.raises(WeightsMissing, match=r"model\.bin is not there"):
        engine.load(tmp_path, tmp_path / "model.xml")
    (tmp_path / "model.bin").write_bytes(graph.with_suffix(".bin").read_bytes()[:100])
    # This error lets torch step in.
    with pytest.raises(RuntimeError):
        engine.load(tmp_path, tmp_path / "model.xml")


def test_the_estimate_leaves_the_word_embeddings_out(graph: Path) -> None:
    need = create_engine("auto", "cpu", "fp32", 1).memory_needed(graph.parent, graph)
    classifier = OpenVinoEngine("fp32", 1).load(graph.parent, graph)
    products = need.held - openvino_engine._GRAPH_BYTES
    table = classifier._table
    assert table is not None
    assert 0 < products <= graph.with_suffix(".bin").stat().st_size - table.nbytes


class OneGraph:
    """Counts what it gives back."""

    last_used = 0.0

    def __init__(self) -> None:
        self.released: list[str] = []

    def release_working_memory(self) -> None:
        self.released.append("working memory")

    def release_pages(self) -> None:
        self.released.append("pages")


def test_only_the_graphs_that_computed_last_keep_their_working_memory() -> None:
    memory = WorkingMemory()
    graphs = [OneGraph() for _ in range(working_memory.KEPT + 2)]
    for one in (*graphs, graphs[-1]):
        memory.used(one)
    assert [one.released for one in graphs[:2]] == [["working memory"]] * 2
    assert [one.released for one in graphs[2:]] == [[]] * working_memory.KEPT
    memory.used(graphs[-2])
    memory.used(graphs[-1])
    assert [one.released for one in graphs[2:]] == [[]] * working_memory.KEPT


def test_idle_graphs_give_everything_back_once() -> None:
    now = 0.0
    memory = WorkingMemory(lambda: now)
    idle, busy = OneGraph(), OneGraph()
    memory.used(idle)
    now = working_memory.IDLE_S
    memory.used(busy)
    assert memory.release_idle()
    assert (idle.released, busy.released) == (["working memory", "pages"], [])
    assert not memory.release_idle()
    memory.used(idle)
    now += 2 * working_memory.IDLE_S
    assert memory.release_idle()
    assert idle.released == 2 * ["working memory", "pages"]
    assert busy.released == ["working memory", "pages"]


def test_a_version_that_was_dropped_is_forgotten() -> None:
    memory = WorkingMemory(lambda: 0.0)
    memory.used(OneGraph())
    gc.collect()
    other = OneGraph()
    memory.used(other)
    assert not memory.release_idle()
    assert other.released == []


def test_blank_batches_of_any_shape_run(graph: Path) -> None:
    classifier = OpenVinoEngine("fp32", 1).load(graph.parent, graph)
    for rows, tokens in ((1, 16), (3, 32), (2, 16)):
        if hasattr(classifier, "run_packed"):
            assert np.isfinite(classifier.run_packed(blank(rows, tokens))).all()
        else:
            ids = np.zeros((rows, tokens), dtype=np.int64)
            assert np.isfinite(classifier.run(ids, np.ones_like(ids))).all()
