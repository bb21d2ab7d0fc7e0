"""LightGBM on rows, and its trees as one node of an ONNX graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from recsys_cli.ranking.trees.config import LightGbmConfig

Rows = tuple[np.ndarray, np.ndarray, "np.ndarray | None", "np.ndarray | None"]
"""values, labels, weights, rows of each group (rows in the order of groups)"""


def tree_settings(config: LightGbmConfig, threads: int) -> dict:
    """LightGBM's parameters, the objective apart."""
    return {
        "num_leaves": config.leaves, "learning_rate": config.learning_rate,
        "min_data_in_leaf": config.min_rows_in_leaf, "feature_fraction": config.feature_share,
        "bagging_fraction": config.row_share, "bagging_freq": 1, "lambda_l2": config.l2, "max_bin": config.bins,
        "num_threads": threads, "deterministic": True, "force_col_wise": True, "use_missing": False, "verbose": -1,
    }


def member_seeds(config: LightGbmConfig, seed: int) -> list[int]:
    """Seeds of the members of a ranker."""
    return [seed * 1000 + member for member in range(config.members)]


class Binned:
    """Training and held-out rows as LightGBM has them, put into bins once for all actions that are known of them."""

    def __init__(self):
        self._values: tuple[np.ndarray, np.ndarray | None] | None = None
        self._made: tuple = ()

    def of(self, settings: dict, train: Rows, held: Rows | None) -> tuple:
        """lightgbm.Dataset of `train` and, or None, of `held`; the last ones with other labels where values are."""
        import lightgbm

        values = train[0], None if held is None else held[0]
        if self._values is None or any(a is not b for a, b in zip(self._values, values, strict=True)):
            data = lightgbm.Dataset(
                train[0], train[1], weight=train[2], group=train[3], params=settings, free_raw_data=False
            )
            compared = None
            if held is not None:
                compared = lightgbm.Dataset(held[0], held[1], weight=held[2], group=held[3], reference=data)
            self._values, self._made = values, (data, compared)
        for rows, made in zip((train, held), self._made, strict=True):
            if made is not None:
                made.set_label(rows[1])
        return self._made


def boost(
    config: LightGbmConfig, settings: dict, train: Rows, held: Rows | None, seeds: Sequence[int], before: list[str],
    binned: Binned | None = None,
) -> tuple[list[str], int]:
    """LightGBM's text of each member, and the rounds kept: those at which the first member was best on `held`.

    seeds: of the members. binned: bins of the action before, for rows that are the same.
    """
    import lightgbm

    # rows on which earlier trees stand cannot be given other labels
    data, compared = (Binned() if binned is None or before else binned).of(settings, train, held)
    texts, rounds = [], config.rounds
    for member, seed in enumerate(seeds):
        given = settings | {"seed": seed}
        model = lightgbm.Booster(model_str=before[member % len(before)]) if before else None
        held_trees = model.num_trees() if model else 0  # LightGBM counts its rounds on from those
        if compared is not None and member == 0:
            stop = lightgbm.early_stopping(config.patience, verbose=False)
            booster = lightgbm.train(given, data, rounds, valid_sets=[compared], callbacks=[stop], init_model=model)
            rounds = max(booster.best_iteration - held_trees, 1)
        else:
            booster = lightgbm.train(given, data, rounds, init_model=model)
        texts.append(booster.model_to_string(num_iteration=held_trees + rounds))
    return texts, rounds


def tree_attributes(models: list[list[str]]) -> dict[str, list]:
    """Attributes of one ONNX TreeEnsembleRegressor whose target t is the mean of the members models[t].

    Features are float32 and LightGBM's thresholds are doubles: rounded down to float32 they part the same rows.
    """
    import lightgbm

    out: dict[str, list] = {
        f"nodes_{k}": []
        for k in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    } | {f"target_{k}": [] for k in ("treeids", "nodeids", "ids", "weights")}
    tree = 0
    for target, texts in enumerate(models):
        for text in texts:
            for info in lightgbm.Booster(model_str=text).dump_model()["tree_info"]:
                for at, node, left, right in _nodes(info["tree_structure"]):
                    leaf = "leaf_value" in node
                    row = (
                        tree, at, 0 if leaf else node["split_feature"], "LEAF" if leaf else "BRANCH_LEQ",
                        0.0 if leaf else _rounded_down(node["threshold"]), left, right,
                    )
                    for key, value in zip(list(out)[:7], row, strict=True):
                        out[key].append(value)
                    if leaf:
                        weight = node["leaf_value"] / len(texts)
                        for key, value in zip(list(out)[7:], (tree, at, target, weight), strict=True):
                            out[key].append(value)
                tree += 1
    return out


def _nodes(root: dict) -> Iterator[tuple[int, dict, int, int]]:
    """(number, node, number of its left child, of its right one) of a tree; 0 for a leaf's children."""
    waiting, following = [(0, root)], 1
    while waiting:
        at, node = waiting.pop()
        if "leaf_value" in node:
            yield at, node, 0, 0
            continue
        yield at, node, following, following + 1
        waiting += [(following, node["left_child"]), (following + 1, node["right_child"])]
        following += 2


def _rounded_down(threshold: float) -> float:
    value = np.float32(threshold)
    # compared as doubles: beside a float32, numpy would round the threshold first
    return float(value if float(value) <= threshold else np.nextafter(value, np.float32(-np.inf)))
