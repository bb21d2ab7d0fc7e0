"""The heavy network in eight bits: products of its large matrices are taken in int8.

Weights have a scale a column; activations have one scale a product, fixed on training rows. A scale taken from the
rows of a request would make a candidate's score depend on the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.features.table import FeatureTable
from recsys_cli.files import scratch_folder, write_bytes
from recsys_cli.metrics import roc_auc
from recsys_cli.ranking.serving.served import GRAPH_FILE, ROWS_AT_ONCE, GraphRanker

if TYPE_CHECKING:
    import onnx

    from recsys_cli.ranking.trained import TrainedRanker

SCALE_ROWS = 4096
"""Rows on which the range of activations is taken at most, evenly spread."""
NARROWEST = 16
"""Matrices of fewer columns stay in float32: heads cost nothing and their errors would be those of the logits."""
HIGHEST_WEIGHT = 63
"""Seven bits: eight overflow the 16-bit sums of processors without VNNI."""


def quantise(folder: str | Path, rows: FeatureTable) -> None:
    """Replace the graph that `TrainedRanker.export` wrote into a folder (`graph`) by its int8 form.

    rows: some that the ranker learned from. One matrix a task (heads over representations of their own) stays in
    float32: onnxruntime has no product of stacked matrices whose scale is of a column. Raises RecsysError where the
    graph cannot be run.
    """
    path = Path(folder) / GRAPH_FILE
    model = _folded(path)
    weights = {t.name: t for t in model.graph.initializer}
    chosen = [n for n in model.graph.node if _is_large_product(n, weights)]
    served = GraphRanker.load(folder)
    ranges = _ranges(model, list(dict.fromkeys(n.input[0] for n in chosen)), served, rows)
    _rewrite(model, chosen, ranges)
    write_bytes(path, model.SerializeToString())
    GraphRanker.load(folder).try_out()


def scaling_rows(train: FeatureTable) -> FeatureTable:
    """The rows that are looked at of those that a ranker learned from."""
    return train.take(slice(None, None, max(len(train) // SCALE_ROWS, 1)))


def _folded(path: Path) -> onnx.ModelProto:
    """The graph with batch normalisation folded into the products before it."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with scratch_folder() as name:
        options.optimized_model_filepath = str(Path(name) / GRAPH_FILE)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def _is_large_product(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in weights:
        return False
    given = {a.name: a for a in node.attribute}
    plain = all(given[n].f == 1 for n in ("alpha", "beta") if n in given) and not _is_set(node, "transA")
    bias = len(node.input) < 3 or (node.input[2] in weights and len(weights[node.input[2]].dims) == 1)
    shape = weights[node.input[1]].dims
    return plain and bias and len(shape) == 2 and shape[0 if _is_set(node, "transB") else 1] >= NARROWEST


def _is_set(node: onnx.NodeProto, name: str) -> bool:
    return any(a.name == name and a.i for a in node.attribute)


def _ranges(
    model: onnx.ModelProto, names: list[str], served: GraphRanker, rows: FeatureTable
) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of inner arrays of the graph over the rows, zero among them."""
    import onnx
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    for name in names:
        watched.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rows = scaling_rows(rows)
    low, high = np.zeros(len(names)), np.zeros(len(names))
    for start in range(0, len(rows), ROWS_AT_ONCE) if names else ():
        found = session.run(names, served.feeds(rows.values, rows.entities, start))
        low = np.minimum(low, [x.min() for x in found])
        high = np.maximum(high, [x.max() for x in found])
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def _rewrite(model: onnx.ModelProto, chosen: list[onnx.NodeProto], ranges: dict[str, tuple[float, float]]) -> None:
    """Put an int8 product in the place of each of the nodes."""
    from onnx import helper, numpy_helper

    graph, weights = model.graph, {t.name: t for t in model.graph.initializer}
    constants, replaced, done = {}, {}, set()
    for number, node in enumerate(chosen):
        source, name = node.input[0], f"int8_{number}"
        low, high = ranges[source]
        scale = max(high - low, 1e-12) / 255
        nodes = []
        if source not in done:
            done.add(source)
            constants[f"{source}_scale"] = np.float32(scale)
            constants[f"{source}_zero"] = np.uint8(round(-low / scale))
            nodes.append(
                helper.make_node("QuantizeLinear", [source, f"{source}_scale", f"{source}_zero"], [f"{source}_int8"])
            )
        matrix = numpy_helper.to_array(weights[node.input[1]])
        if _is_set(node, "transB"):
            matrix = matrix.T
        columns = np.maximum(np.abs(matrix).max(axis=0), 1e-12) / HIGHEST_WEIGHT
        constants[f"{name}_weight"] = np.round(matrix / columns).astype(np.int8)
        constants[f"{name}_columns"] = columns.astype(np.float32)
        bias = list(node.input[2:3])
        nodes.append(
            helper.make_node(
                "MatMulIntegerToFloat",
                [f"{source}_int8", f"{name}_weight", f"{source}_scale", f"{name}_columns", f"{source}_zero", "", *bias],
                list(node.output), domain="com.microsoft",
            )
        )
        replaced[node.output[0]] = nodes
    kept = [n for node in graph.node for n in replaced.get(node.output[0], [node])]
    read = _read(kept)
    tensors = [t for t in graph.initializer if t.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend([*tensors, *(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())])
    if not any(o.domain == "com.microsoft" for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _read(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Names that nodes read, those of branches among them."""
    out = {name for node in nodes for name in node.input}
    return out.union(*(_read(a.g.node) for node in nodes for a in node.attribute if a.HasField("g")))


def int8_loss(ranker: TrainedRanker, train: FeatureTable, valid: FeatureTable) -> dict[str, dict[str, float]]:
    """Task → ROC-AUC on the validation rows as served in float32 ("float32") and in int8 ("int8"), scaled on
    `train`."""
    out: dict[str, dict[str, float]] = {}
    with scratch_folder() as name:
        ranker.export(name, graph=True)
        for precision in ("float32", "int8"):
            if precision == "int8":
                quantise(name, train)
            predicted = GraphRanker.load(name).predict(valid.values, valid.entities)
            for task in ranker.tasks:
                out.setdefault(task, {})[precision] = roc_auc(valid.labels[task], predicted[task])
    return out
