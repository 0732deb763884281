"""Changes a graph before it is compiled, so that a version holds its weights once in memory.

Compiled as it is, a MiniLM took 150 MB: its 47 MB of word embeddings and half of its 43 MB of other
weights in the mapped file, and up to three rearranged copies of those weights. Changed, it takes
57 MB.
"""

import platform
from typing import NamedTuple

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as opset

from inference_svc.engines.mapped_weights import MappedWeights

Array = NDArray[np.float32]

# Smaller embedding tables stay in the graph.
_LEAST_TABLE_BYTES = 1 << 20
# OpenVINO computes these within the matrix product before them.
_FUSED = ("Gelu", "Tanh", "Relu", "Swish", "Sigmoid")


class ChangedGraph(NamedTuple):
    """What a changed graph takes beside the inputs that it had."""

    table: Array | None
    """Word embeddings [words, size]. The first further input holds those of the batch's token ids:
    [rows, tokens, size]. None: the graph looks them up itself."""
    constants: list[Array]
    """The inputs after that one; they never change."""


def change(graph: openvino.Model, weights: MappedWeights, number_format: str) -> ChangedGraph:
    """Change the graph, whose weights are in `weights`; the first input holds token ids."""
    added: list[openvino.Node] = []
    table = _take_out_embeddings(graph, weights, added)
    constants: list[Array] = []
    if number_format == "fp32" and platform.machine() in ("x86_64", "AMD64"):
        constants = _keep_products_apart(graph, added)
    graph.add_parameters(added)
    graph.validate_nodes_and_infer_types()
    return ChangedGraph(table, constants)


def _take_out_embeddings(
    graph: openvino.Model, weights: MappedWeights, added: list[openvino.Node]
) -> Array | None:
    """Make the embeddings of the batch's tokens an input, so that the table stays in the file.

    OpenVINO reads a constant as a whole when it compiles the graph, also for a few words.
    """
    for node in graph.get_ordered_ops():
        table = _looked_up(node, graph.inputs[0])
        if table is not None and table.nbytes >= _LEAST_TABLE_BYTES and weights.holds(table):
            embedded = opset.parameter([-1, -1, table.shape[1]], np.float32, name="embedded")
            _use_instead(node, embedded)
            added.append(embedded)
            return weights.view(table)
    return None


def _looked_up(node: openvino.Node, ids: openvino.Output) -> Array | None:
    """The table of a node that looks each token id up in a table, else None."""
    if node.get_type_name() != "Gather":
        return None
    table, index, axis = (node.input_value(number) for number in range(3))
    if index.get_node().get_type_name() == "Convert":
        index = index.get_node().input_value(0)
    constant = table.get_node()
    if (
        index.get_node().get_friendly_name() != ids.get_node().get_friendly_name()
        or constant.get_type_name() != "Constant"
        or constant.get_element_type() != openvino.Type.f32
        or len(constant.get_output_shape(0)) != 2
        or axis.get_node().get_type_name() != "Constant"
        or int(axis.get_node().data.item()) != 0
    ):
        return None
    data: Array = constant.data
    return data


def _keep_products_apart(graph: openvino.Model, added: list[openvino.Node]) -> list[Array]:
    """Have OpenVINO compute every matrix product alone, on the one rearranged copy of its weights.

    For a product alone it takes MLAS, which has one layout of the weights. For a product and what
    follows it, in one step, it takes oneDNN, which has a layout for small batches, one for large
    ones and one that is made when the graph is compiled, and OpenVINO keeps them all. So a factor
    of 1 that is an input, and hence unknown when the graph is compiled, comes in between; the same
    is done to the scale of attention. MiniLM computes as quickly either way, and gives the same
    scores to the bit, but for the scale, which changes the seventh digit.
    """
    constants: list[Array] = []
    one: openvino.Node | None = None
    scales: dict[float, openvino.Node] = {}
    for node in graph.get_ordered_ops():
        if node.get_type_name() in _FUSED and node.get_element_type() == openvino.Type.f32:
            if one is None:
                one = opset.parameter([1], np.float32, name="one")
                added.append(one)
                constants.append(np.ones(1, dtype=np.float32))
            product = opset.multiply(node.input_value(0), one)
            node.input(0).replace_source_output(product.output(0))
        elif node.get_type_name() == "ScaledDotProductAttention" and node.get_input_size() == 5:
            constant = node.input_value(4).get_node()
            if constant.get_type_name() == "Constant" and constant.data.size == 1:
                value = float(constant.data.item())
                if value not in scales:
                    scales[value] = opset.parameter([], np.float32, name=f"scale{len(scales)}")
                    added.append(scales[value])
                    constants.append(np.array(value, dtype=np.float32))
                node.input(4).replace_source_output(scales[value].output(0))
    return constants


def _use_instead(old: openvino.Node, new: openvino.Node) -> None:
    for target in old.output(0).get_target_inputs():
        target.replace_source_output(new.output(0))
