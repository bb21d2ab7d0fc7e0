"""Settings of training do what they say: stages, position, weights of rows, balance, precision, seeds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from recsys_cli.data.schema import DAY
from recsys_cli.errors import DataError
from recsys_cli.progress import Progress
from recsys_cli.ranking.logistic import sigmoid
from recsys_cli.ranking.networks import training_loop
from recsys_cli.ranking.networks.kinds import EsmmConfig, SharedBottomConfig
from recsys_cli.ranking.networks.network import HeavyNetwork, InputSpec
from recsys_cli.ranking.networks.training_rows import groups, input_spec, place_codes, row_weights
from recsys_cli.ranking.networks.trunks import Fm
from recsys_cli.ranking.registry import HeavyRankerConfig, load_ranker
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.testing.ranker_tables import make_table

SMALL = {"hidden": [16], "epochs": 3, "min_steps": 0, "batch_size": 256, "learning_rate": 5e-3}


class Said(Progress):
    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


def nested(table):
    """The table where likes happen to clicked items alone."""
    return replace(table, labels=table.labels | {"like": table.labels["like"] & table.labels["click"]})


def test_what_lies_behind_a_stage_is_a_product_of_probabilities():
    spec = replace(input_spec(make_table(300)), behind=[-1, 0, -1])
    torch.manual_seed(0)
    network = HeavyNetwork(EsmmConfig(hidden=[8]), spec, 3, False).eval()
    inputs = network.input.prepare(torch.from_numpy(make_table(50, 1).values))
    product = torch.sigmoid(network.raw(*inputs)[0].double())
    network.behind = []
    parts = torch.sigmoid(network.raw(*inputs)[0].double())
    assert torch.allclose(product[:, 0], parts[:, 0]) and torch.allclose(product[:, 2], parts[:, 2])
    assert torch.allclose(product[:, 1], parts[:, 0] * parts[:, 1], atol=1e-6)


def test_esmm_never_gives_an_action_more_than_its_first_stage_and_begins_at_the_base_rates(tmp_path):
    train = nested(make_table(3000))
    config = EsmmConfig(**SMALL, calibration="none")
    ranker = fit_heavy(config, train, nested(make_table(500, 1)), seed=0)
    assert ranker.spec.behind == [-1, 0, -1]
    ranker.export(tmp_path)
    for predicted in (ranker.predict(train.values), load_ranker(tmp_path).predict(train.values)):
        assert (predicted["like"] < predicted["click"]).all()
        assert predicted["like"].mean() == pytest.approx(train.labels["like"].mean(), rel=0.3)
    network = HeavyNetwork(config, ranker.spec, 3, False).eval()
    network.set_base_rates(torch.tensor([0.4, 0.1, 0.2]), None)
    for p in (network.heads.weight,):
        torch.nn.init.zeros_(p)
    logits = network.raw(*network.input.prepare(torch.from_numpy(train.values[:2])))[0]
    assert torch.sigmoid(logits)[0].tolist() == pytest.approx([0.4, 0.1, 0.2], abs=1e-4)


def test_the_stages_of_esmm_come_from_settings_or_from_what_happens_together():
    table, tasks = nested(make_table(2000)), ("click", "like", "hide")
    assert EsmmConfig().stages(table.labels, tasks) == [-1, 0, -1]
    assert EsmmConfig(behind=["like", "hide"]).stages(table.labels, tasks) == [-1, 0, 0]
    assert EsmmConfig(first="hide", behind=["like"]).stages(table.labels, tasks) == [-1, 2, -1]
    renamed = {"view": table.labels["click"], "like": table.labels["like"]}
    assert EsmmConfig().stages(renamed, ("like", "view")) == [1, -1]
    with pytest.raises(DataError, match="'share', which has no head"):
        EsmmConfig(behind=["share"]).stages(table.labels, tasks)
    with pytest.raises(DataError, match="no action behind 'like'"):
        EsmmConfig(first="like").stages(table.labels, tasks)


def test_a_factorisation_machine_adds_up_every_pair_of_inputs():
    torch.manual_seed(1)
    trunk, x = Fm(5, 2, 3), torch.randn(4, 5)
    torch.nn.init.normal_(trunk.factors)
    out = trunk(x)
    factors = trunk.factors.view(5, 2, 3)
    for task in range(2):
        assert torch.equal(out[task, :, :5], x)
        pairs = sum(
            (factors[i, task] @ factors[j, task]) * x[:, i] * x[:, j] for i in range(5) for j in range(i + 1, 5)
        )
        assert torch.allclose(out[task, :, 5], pairs, atol=1e-4)


def shown_by_position(n, seed):
    """Impressions whose place follows a feature that says nothing of their worth, clicked where the place is high."""
    table, rng = make_table(n, seed), np.random.default_rng(seed + 50)
    z = (table.values[:, :-1] - 3) / (10.0 ** (np.arange(6) % 6) / 10)
    worth = 1.2 * z[:, 0]
    position = np.clip(np.round(5 - 2 * z[:, 1] + rng.normal(0, 1.5, n)), 0, 9)
    clicked = rng.random(n) < sigmoid(worth + 1.5 - 0.6 * position)
    return replace(table, labels={"click": clicked}, position=position.astype(np.int16), dwell=None), worth


def test_without_position_correction_the_oracle_correlation_suffers():
    (train, _), (valid, worth) = shown_by_position(6000, 0), shown_by_position(1500, 1)
    found = {}
    for bias in ("none", "tower"):
        more = {"epochs": 16, "learning_rate": 1e-2, "patience": 16, "position_bias": bias, "calibration": "none"}
        config = SharedBottomConfig(**SMALL | more)
        ranker = fit_heavy(config, train, valid, seed=0)
        found[bias] = np.corrcoef(ranker.logits(valid.values)[0][:, 0], worth)[0, 1]
    assert found["tower"] > 0.9
    assert found["tower"] > found["none"] + 0.1


def test_the_position_tower_is_fixed_at_its_mean_in_service_and_learns_that_the_top_is_clicked(tmp_path):
    (train, _), (valid, _) = shown_by_position(3000, 0), shown_by_position(500, 1)
    ranker = fit_heavy(SharedBottomConfig(**SMALL, position_bias="tower", calibration="none"), train, valid, seed=0)
    member = ranker.network.members[0]
    bias = member.place_embedding.weight[:, 0].detach()
    codes = torch.from_numpy(place_codes(train))
    assert bias[1] > bias[8] + 0.1
    inputs = member.input.prepare(torch.from_numpy(valid.values[:9]))
    at_mean, at_top = (member.raw(*inputs, place=p)[0] for p in (None, torch.ones(9, dtype=torch.int64)))
    assert torch.allclose(at_top - at_mean, (bias[1] - bias[codes].mean()).expand(9, 1), atol=1e-5)
    ranker.export(tmp_path)
    served = load_ranker(tmp_path).predict(valid.values)["click"]
    np.testing.assert_allclose(served, ranker.predict(valid.values)["click"], atol=1e-5)


def test_codes_of_places_tell_surfaces_apart_and_unknown_positions():
    table = replace(make_table(4), position=np.array([0, 2, -1, 300], np.int16))
    assert place_codes(table).tolist() == [1, 3, 0, 100]
    values = np.column_stack([table.values[:, 0], [0, 1, 1, 2]]).astype(np.float32)
    table = replace(table, values=values, names=("a", "surface"), categories={"surface": 3})
    assert place_codes(table).tolist() == [1, 103, 0, 300]
    assert place_codes(replace(table, position=None)) is None
    assert place_codes(replace(table, position=np.full(4, -1, np.int16))) is None


def test_corrections_that_the_data_cannot_feed_step_aside_and_say_so():
    for bias, what in (("tower", "no position was logged"), ("propensity", "no propensity was logged")):
        said = Said()
        fit_heavy(
            SharedBottomConfig(**SMALL, position_bias=bias), make_table(300), make_table(100, 1), seed=0, progress=said
        )
        assert sum(what in line for line in said.lines) == 1


def test_rows_weigh_by_recency_and_by_inverse_propensity():
    table = replace(
        make_table(4), time=np.array([0, 10, 20, 20]) * DAY, weight=np.array([1, 1, 1, 3], np.float32),
        propensity=np.array([0.5, 0.25, np.nan, 0.001], np.float32),
    )
    recency = row_weights(SharedBottomConfig(half_life_days=10), table, Said())
    expected = np.array([0.25, 0.5, 1, 3])
    np.testing.assert_allclose(recency, expected / expected.mean(), rtol=1e-6)
    inverse = row_weights(
        SharedBottomConfig(position_bias="propensity", propensity_floor=0.1), replace(table, weight=None), Said()
    )
    expected = np.array([2, 4, 16 / 3, 10])
    np.testing.assert_allclose(inverse, expected / expected.mean(), rtol=1e-6)
    assert row_weights(SharedBottomConfig(), replace(table, weight=None), Said()) is None


def test_rows_of_a_request_are_one_group_and_without_requests_those_of_a_user_and_moment():
    table = replace(make_table(5), user=np.array([1, 1, 2, 1, 2]), time=np.array([5, 5, 5, 6, 5]))
    by_moment = groups(table)
    assert len(np.unique(by_moment)) == 3 == by_moment.max() + 1
    assert by_moment[0] == by_moment[1] and by_moment[2] == by_moment[4]
    by_request = groups(replace(table, request=np.array([9, 8, 9, 9, 7])))
    assert by_request[0] == by_request[2] == by_request[3]
    assert len(np.unique(by_request)) == 3


def test_batches_keep_the_rows_of_a_request_together_where_they_are_compared(monkeypatch):
    table = make_table(600)
    table = replace(table, request=np.random.default_rng(0).integers(0, 120, 600))
    seen = []
    real = training_loop.listwise_softmax
    monkeypatch.setattr(training_loop, "listwise_softmax", lambda *a: (seen.append(a[2]), real(*a))[1])
    fit_heavy(SharedBottomConfig(**SMALL | {"epochs": 1}, listwise=0.5), table, make_table(100, 1), seed=0)
    parts = sum(len(torch.unique(group)) for group in seen)
    assert len(seen) == 3
    assert 120 <= parts <= 122  # a batch ends within one request at most


LEARNERS = [
    {"balance": "uncertainty"}, {"balance": "gradnorm"}, {"balance": "pcgrad"}, {"loss": "focal", "focal_gamma": 2.0},
    {"listwise": 1.0}, {"precision": "bfloat16"}, {"half_life_days": 3.0},
]


@pytest.mark.parametrize("setting", LEARNERS, ids=lambda s: " ".join(map(str, s.values())))
def test_every_setting_learns_something_else_and_as_well(setting):
    train, valid = make_table(2000), make_table(600, 1)
    plain = fit_heavy(SharedBottomConfig(**SMALL), train, valid, seed=0)
    other = fit_heavy(SharedBottomConfig(**SMALL, **setting), train, valid, seed=0)
    differ = np.abs(plain.logits(valid.values)[0] - other.logits(valid.values)[0]).max()
    assert differ > 1e-4
    assert other.metrics["click"]["roc_auc"] > plain.metrics["click"]["roc_auc"] - 0.04  # 400 rows decide
    assert other.metrics["click"]["ece"] < 0.08


@pytest.mark.parametrize("balance", ["uncertainty", "pcgrad"])
def test_a_killed_training_with_balanced_tasks_ends_with_the_same_weights(tmp_path, monkeypatch, balance):
    config, train, valid = SharedBottomConfig(**SMALL, balance=balance), make_table(800), make_table(200, 1)
    whole = fit_heavy(config, train, valid, seed=2)
    real, ran = training_loop.TrainingLoop._train_epoch, []

    def killed(self, *arguments):
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(1)
        return real(self, *arguments)

    monkeypatch.setattr(training_loop.TrainingLoop, "_train_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        fit_heavy(config, train, valid, seed=2, resume=tmp_path / "heavy.pt")
    monkeypatch.setattr(training_loop.TrainingLoop, "_train_epoch", real)
    resumed = fit_heavy(config, train, valid, seed=2, resume=tmp_path / "heavy.pt")
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_the_dwell_head_can_give_a_quantile():
    train, valid = make_table(3000), make_table(1000, 1)
    low, high = (
        fit_heavy(
            SharedBottomConfig(
                **SMALL | {"epochs": 8}, dwell_loss="quantile", dwell_quantile=q, dwell_weight=1.0
            ),
            train, valid, seed=0,
        ).predict(valid.values)["dwell"]
        for q in (0.2, 0.8)
    )
    known = np.isfinite(valid.dwell)
    assert np.mean(valid.dwell[known] < low[known]) == pytest.approx(0.2, abs=0.07)
    assert np.mean(valid.dwell[known] < high[known]) == pytest.approx(0.8, abs=0.07)


def test_several_seeds_report_the_mean_and_spread_of_each_head_and_keep_the_first():
    train, valid = make_table(1000), make_table(400, 1)
    one = fit_heavy(SharedBottomConfig(**SMALL), train, valid, seed=5)
    three = fit_heavy(SharedBottomConfig(**SMALL, seeds=3), train, valid, seed=5)
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, three.network.state_dict()[name])
    figures = three.metrics["click"]
    assert len(set(figures["auc_seeds"])) == 3
    assert figures["auc_mean"] == pytest.approx(np.mean(figures["auc_seeds"]))
    assert figures["auc_sd"] == pytest.approx(np.std(figures["auc_seeds"], ddof=1))
    assert "auc_mean" not in one.metrics["click"]


def test_constant_features_are_named_once():
    train, said = make_table(400), Said()
    train.values[:, [1, 4]] = 7.0
    ranker = fit_heavy(SharedBottomConfig(**SMALL), train, make_table(100, 1), seed=0, progress=said)
    assert [line for line in said.lines if "constant" in line] == [
        "constant in the training rows, so that they teach nothing: number_1, number_4"
    ]
    assert ranker.metrics["training"]["constant_features"] == ["number_1", "number_4"]


def test_settings_that_contradict_each_other_are_refused():
    check = TypeAdapter(HeavyRankerConfig).validate_python
    with pytest.raises(ValidationError, match="user and item"):
        check({"kind": "ncf", "ids": ["item"]})
    with pytest.raises(ValidationError, match="even id_dim"):
        check({"kind": "ncf", "id_dim": 7})
    with pytest.raises(ValidationError, match="multiple of history_heads"):
        check({"kind": "transformer", "history_dim": 30, "history_heads": 4})
    with pytest.raises(ValidationError, match="twice"):
        check({"kind": "mmoe", "ids": ["item", "item"]})
    with pytest.raises(ValidationError):
        check({"kind": "din", "history": "none"})


def test_a_description_of_inputs_survives_the_checkpoint():
    spec = InputSpec([0], [False], [0.0], [1.0], [], [], behind=[-1, 0], places=[0.5, 0.5])
    assert InputSpec.from_dict(spec.to_dict()) == spec
