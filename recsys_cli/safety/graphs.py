"""The ONNX graphs of the classifiers, written node by node."""

from __future__ import annotations

from pathlib import Path

import numpy as np

OPSET, IR_VERSION = 18, 10


def write_text_graph(
    path: Path, keys: np.ndarray, idf: np.ndarray, weights: np.ndarray, scale: float, shift: float
) -> None:
    """A graph from n-grams to probabilities: inputs rows, columns int64[m], values float32[m] and texts int64[1]
    (their number), output float32[texts].

    Every block of n-grams of a text is brought to length one, as in training.
    """
    from onnx import TensorProto, helper

    constants = {
        "idf": idf.astype(np.float32),
        "weights": (scale * weights.astype(np.float64)).astype(np.float32),
        "block": (keys & np.uint32(1)).astype(np.int64),
        "two": np.array([2], np.int64),
        "tiny": np.array(1e-12, np.float32),
        "shift": np.array(shift, np.float32),
        "axis": np.array([1], np.int64),
        "grid": np.array([-1, 2], np.int64),
    }
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    nodes = [
        helper.make_node("Gather", ["idf", "columns"], ["idf_of"]),
        helper.make_node("Mul", ["values", "idf_of"], ["x"]),
        helper.make_node("Mul", ["x", "x"], ["x2"]),
        helper.make_node("Gather", ["weights", "columns"], ["weight_of"]),
        helper.make_node("Mul", ["x", "weight_of"], ["wx"]),
        helper.make_node("Gather", ["block", "columns"], ["block_of"]),
        helper.make_node("Mul", ["rows", "two"], ["row2"]),
        helper.make_node("Add", ["row2", "block_of"], ["slot"]),
        helper.make_node("Mul", ["texts", "two"], ["slots"]),
        helper.make_node("ConstantOfShape", ["slots"], ["zeros"], value=zero),
        helper.make_node("ScatterElements", ["zeros", "slot", "x2"], ["squares"], axis=0, reduction="add"),
        helper.make_node("ScatterElements", ["zeros", "slot", "wx"], ["products"], axis=0, reduction="add"),
        helper.make_node("Sqrt", ["squares"], ["lengths"]),
        helper.make_node("Max", ["lengths", "tiny"], ["safe"]),
        helper.make_node("Div", ["products", "safe"], ["parts"]),
        helper.make_node("Reshape", ["parts", "grid"], ["by_text"]),
        helper.make_node("ReduceSum", ["by_text", "axis"], ["sums"], keepdims=0),
        helper.make_node("Add", ["sums", "shift"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
    ]
    inputs = [
        helper.make_tensor_value_info("rows", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("columns", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("values", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("texts", TensorProto.INT64, [1]),
    ]
    _save(path, "text_classifier", nodes, inputs, "probabilities", constants)


def write_linear_graph(path: Path, mean: np.ndarray, spread: np.ndarray, weights: np.ndarray, bias: float) -> None:
    """A graph from features float32[n, F] to probabilities float32[n]: a missing one (NaN) counts as the mean."""
    from onnx import TensorProto, helper

    width = len(mean)
    constants = {
        "mean": mean.astype(np.float32),
        "spread": spread.astype(np.float32),
        "weights": weights.astype(np.float32).reshape(-1, 1),
        "bias": np.array(bias, np.float32),
        "flat": np.array([-1], np.int64),
        "zero": np.array(0.0, np.float32),
    }
    nodes = [
        helper.make_node("Sub", ["features", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "spread"], ["scaled"]),
        helper.make_node("IsNaN", ["scaled"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "scaled"], ["known"]),
        helper.make_node("MatMul", ["known", "weights"], ["products"]),
        helper.make_node("Add", ["products", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["column"]),
        helper.make_node("Reshape", ["column", "flat"], ["probabilities"]),
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])]
    _save(path, "account_classifier", nodes, inputs, "probabilities", constants)


def _save(path: Path, name: str, nodes: list, inputs: list, output: str, constants: dict[str, np.ndarray]) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    out = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["rows_out"])
    tensors = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, inputs, [out], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
