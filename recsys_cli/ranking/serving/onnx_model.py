"""ONNX models put together by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx


def model_of(
    nodes: Sequence[onnx.NodeProto], inputs: Sequence[onnx.ValueInfoProto], outputs: Mapping[str, int | None],
    constants: Mapping[str, np.ndarray], weights: Sequence[onnx.TensorProto] = (),
) -> bytes:
    """A model of nodes. outputs: name → columns, None for one value a row. weights: tensors beside the constants."""
    from onnx import TensorProto, helper, numpy_helper

    made = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows"] if columns is None else ["rows", columns])
        for name, columns in outputs.items()
    ]
    tensors = [*weights, *(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())]
    graph = helper.make_graph(nodes, "ranker", inputs, made, tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
