"""The heavy network in eight bits: weights of its matrix products as int8, activations quantised as they come."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_cli.features.table import FeatureTable
from recsys_cli.files import atomic_file
from recsys_cli.metrics import roc_auc
from recsys_cli.ranking.serving import GRAPH_FILE, ServedRanker

if TYPE_CHECKING:
    from recsys_cli.ranking.heavy import HeavyRanker


def quantise(folder: str | Path) -> None:
    """Replace the graph that `HeavyRanker.export` wrote into a folder by its int8 form.

    Products of one matrix a task (heads over representations of their own) stay in float32: onnxruntime has no int8
    product whose stacked matrices are scaled by column. Raises RecsysError where the graph cannot be run.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = Path(folder) / GRAPH_FILE
    graph = onnx.load(path).graph
    stacked = {t.name for t in graph.initializer if len(t.dims) > 2}
    kept = [n.name for n in graph.node if n.op_type == "MatMul" and stacked & set(n.input)]
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)  # it recommends a step of its own on every call
    try:
        with atomic_file(path) as temporary:
            quantize_dynamic(
                str(path), str(temporary), op_types_to_quantize=["MatMul", "Gemm"], per_channel=True,
                weight_type=QuantType.QInt8, nodes_to_exclude=kept,
            )
    finally:
        root.setLevel(level)
    ServedRanker.load(folder).try_out()


def int8_loss(ranker: HeavyRanker, valid: FeatureTable) -> dict[str, dict[str, float]]:
    """Task → ROC-AUC on the validation rows as served in float32 ("float32") and in int8 ("int8")."""
    out: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        ranker.export(name)
        for precision in ("float32", "int8"):
            if precision == "int8":
                quantise(name)
            predicted = ServedRanker.load(name).predict(valid.values, valid.entities)
            for task in ranker.tasks:
                rows = valid.known(task)
                auc = roc_auc(valid.labels[task][rows], predicted[task][rows])
                out.setdefault(task, {})[precision] = auc
    return out
