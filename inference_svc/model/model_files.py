"""The files of one model version, as training logs them."""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOLDEN_FILE = "golden.json"
WEIGHTS_FOLDER = "model"
TOKENIZER_FILE = "components/tokenizer/tokenizer.json"
GRAPH_FORMAT = "openvino-ir"
_INSIDE = re.compile(r"[a-z0-9_]+/[a-z0-9_]+\.xml")


class InvalidModel(Exception):
    """The files of a version are not as training logs them; the message says what is wrong."""


@dataclass(frozen=True)
class GoldenText:
    """A text, and the label and scores that the trained model gave it in fp32."""

    text: str
    label: str
    scores: tuple[float, ...]


@dataclass(frozen=True)
class ModelSpec:
    """What golden.json says about a version."""

    labels: tuple[str, ...]
    max_tokens: int
    golden: tuple[GoldenText, ...]
    graph: str = ""
    """The exported graph's XML file, relative to the version's folder; empty: there is none."""


def read_spec(folder: Path) -> ModelSpec:
    """Read golden.json. Raises InvalidModel when it is missing or malformed."""
    path = folder / GOLDEN_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        spec = ModelSpec(
            labels=tuple(map(str, content["labels"])),
            max_tokens=int(content["max_tokens"]),
            golden=tuple(map(_golden_text, content["golden"])),
            graph=_graph_file(content.get("graph")),
        )
    except FileNotFoundError as error:
        raise InvalidModel(f"{GOLDEN_FILE} is missing") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidModel(f"{GOLDEN_FILE} is malformed: {error!r}") from error
    if not spec.labels or spec.max_tokens < 1:
        raise InvalidModel(f"{GOLDEN_FILE} names no labels or no max_tokens")
    return spec


def needed_weights(folder: Path, large: Collection[str], reads_graphs: bool) -> Collection[str]:
    """Which of the large files an engine reads: those of the graph, or those for torch.

    `folder` holds the version's small files, `large` are the paths of the others.
    """
    try:
        graph = read_spec(folder).graph
    except InvalidModel:
        return large  # whoever loads the version says what is wrong
    of_graph = [path for path in large if graph and path.startswith(graph.split("/")[0] + "/")]
    if reads_graphs and of_graph:
        return of_graph
    return [path for path in large if path not in of_graph]


def read_pad_id(folder: Path, spec: ModelSpec) -> int:
    """Id of the padding token. Raises InvalidModel when config.json does not fit the spec."""
    try:
        config = json.loads((folder / WEIGHTS_FOLDER / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidModel(f"config.json cannot be read: {error}") from error
    positions = config.get("max_position_embeddings")
    if positions and spec.max_tokens > positions:
        # On CUDA the first text of that length would end the whole process.
        raise InvalidModel(f"max_tokens is {spec.max_tokens}, but the model takes {positions}")
    return int(config.get("pad_token_id") or 0)


def _golden_text(item: dict[str, Any]) -> GoldenText:
    return GoldenText(
        text=str(item["text"]), label=str(item["label"]), scores=tuple(map(float, item["scores"]))
    )


def _graph_file(graph: dict[str, Any] | None) -> str:
    if graph is None or graph["format"] != GRAPH_FORMAT:
        return ""  # another format may come from a training service that is newer than this replica
    file = str(graph["file"])
    if not _INSIDE.fullmatch(file):
        raise ValueError(f"the graph is not inside the version: {file[:60]!r}")
    return file
