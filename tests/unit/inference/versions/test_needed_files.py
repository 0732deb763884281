"""A replica downloads the weights that its engine reads, and the others when they are needed."""

import json
from pathlib import Path

import pytest

from inference_svc.engines.base import WeightsMissing
from inference_svc.model.model_files import GOLDEN_FILE, needed_weights
from tests.twins.replica import SteeredClassifier, SteeredEngine
from tests.unit.inference.parts import Parts

LARGE = ["model/model.safetensors", "openvino/model.bin"]
GRAPH = {"format": "openvino-ir", "version": "1", "file": "openvino/model.xml"}


def with_graph(folder: Path, graph: dict[str, str] | None) -> Path:
    content = {"labels": ["bad", "good"], "max_tokens": 8, "golden": [], "graph": graph}
    (folder / GOLDEN_FILE).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("graph", "reads_graphs", "wanted"),
    [
        (GRAPH, True, ["openvino/model.bin"]),
        (GRAPH, False, ["model/model.safetensors"]),
        # The graph is in a format of a later release: torch has to run the weights.
        (GRAPH | {"format": "later"}, True, LARGE),
        (None, True, LARGE),
    ],
)
def test_each_engine_gets_its_own_weights(
    tmp_path: Path, graph: dict[str, str] | None, reads_graphs: bool, wanted: list[str]
) -> None:
    assert needed_weights(with_graph(tmp_path, graph), LARGE, reads_graphs) == wanted


def test_a_graph_without_its_file_leaves_the_weights_in(tmp_path: Path) -> None:
    only = ["model/model.safetensors"]
    assert needed_weights(with_graph(tmp_path, GRAPH), only, True) == only


def test_a_malformed_version_is_downloaded_whole(tmp_path: Path) -> None:
    (tmp_path / GOLDEN_FILE).write_text("{")
    assert needed_weights(tmp_path, LARGE, True) == LARGE


class TorchOnly(SteeredEngine):
    """Cannot load any graph, and then wants the weights."""

    def load(self, weights: Path, graph: Path | None = None) -> SteeredClassifier:
        if not (weights / "model.safetensors").exists():
            raise WeightsMissing("no safetensors are there")
        return super().load(weights, graph)


def add_weights(parts: Parts) -> None:
    folder = parts.registry.folders["reviews", "1"]
    golden = json.loads((folder / GOLDEN_FILE).read_text())
    (folder / GOLDEN_FILE).write_text(json.dumps(golden | {"graph": GRAPH}))
    (folder / "openvino").mkdir()
    for file in LARGE:
        (folder / file).write_text("weights")


def cached(parts: Parts) -> list[str]:
    """The large files in the cache."""
    files = parts.cache._root.glob("*/*/*/*")
    return sorted("/".join(file.parts[-2:]) for file in files if "/".join(file.parts[-2:]) in LARGE)


async def test_the_other_weights_stay_on_the_server(parts: Parts) -> None:
    add_weights(parts)
    await parts.reload("1")
    assert cached(parts) == ["openvino/model.bin"]


async def test_weights_that_turn_out_to_be_needed_are_downloaded_then(parts: Parts) -> None:
    add_weights(parts)
    parts.engine.__class__ = TorchOnly
    await parts.reload("1")
    assert parts.version() == "1"
    assert parts.registry.downloads == [("reviews", "1")] * 2
    assert cached(parts) == LARGE
