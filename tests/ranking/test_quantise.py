"""The int8 form of a network is smaller, nearly as good, and what it loses is told."""

import numpy as np
import onnx
import pytest

from recsys_cli.metrics import roc_auc
from recsys_cli.ranking.quantise import int8_loss, quantise
from recsys_cli.ranking.serving import GRAPH_FILE, ServedRanker


def test_an_int8_graph_is_served_like_the_other_and_loses_what_training_says(fitted, tmp_path):
    ranker, valid = fitted
    ranker.export(tmp_path)
    before = ServedRanker.load(tmp_path).predict(valid.values)
    quantise(tmp_path)
    graph = onnx.load(tmp_path / GRAPH_FILE).graph
    assert any(node.op_type == "MatMulInteger" for node in graph.node)
    served = ServedRanker.load(tmp_path)
    after = served.predict(valid.values)
    assert served.tasks == ranker.tasks and after.keys() == before.keys()
    loss = int8_loss(ranker, valid)
    for task in ranker.tasks:
        assert 0 < np.abs(after[task] - before[task]).max() < 0.2
        assert loss[task]["int8"] == pytest.approx(roc_auc(valid.labels[task], after[task]), abs=1e-9)
        assert loss[task]["float32"] == pytest.approx(roc_auc(valid.labels[task], before[task]), abs=1e-9)
        assert abs(loss[task]["float32"] - loss[task]["int8"]) < 0.01
