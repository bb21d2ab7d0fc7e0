"""The training loop of the heavy ranker: steps, averaging of weights, early stopping, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from recsys_cli.errors import RecsysError
from recsys_cli.metrics import log_loss, roc_auc
from recsys_cli.optimisers import AdamW
from recsys_cli.parallel import torch_seed
from recsys_cli.progress import Step
from recsys_cli.ranking.constant_heads import ConstantHeadWatch, collapsed, constant_heads
from recsys_cli.ranking.logistic import sigmoid
from recsys_cli.ranking.networks.config import HeavyNetworkConfig
from recsys_cli.ranking.networks.losses import gaussian_nll, listwise_softmax, pinball, weighted_bce
from recsys_cli.ranking.networks.network import HeavyNetwork, InputSpec, ServedNetwork, batches
from recsys_cli.ranking.networks.task_balance import TaskBalance
from recsys_cli.ranking.networks.training_rows import PREPARED_VALUES, TrainingRows
from recsys_cli.ranking.networks.warm_start import earlier_weights
from recsys_cli.ranking.training_inputs import TrainingInputs

VALIDATION_ROWS = 16_384
"""Rows scored at once."""
LEARNING_RATE_FLOOR = 1e-8
CONFIRM_ROWS = 4096
"""Training rows on which a head that seems to have collapsed is looked at."""


@dataclass
class _Member:
    """One network in training."""

    network: HeavyNetwork
    optimiser: torch.optim.Optimizer
    average: dict[str, torch.Tensor]
    """moving average of its weights"""
    balance: TaskBalance
    """how its tasks are weighed"""
    epoch: int = 0
    best: float = -np.inf
    best_epoch: int = 0
    best_weights: dict[str, torch.Tensor] | None = None


class TrainingLoop:
    """Trains the members of one ranker one after the other.

    Every epoch draws its own seed from (seed, member, epoch) and the learning rate follows from the number of the
    step, so that the checkpoint of an epoch holds all there is to know for the epochs after it.
    """

    def __init__(
        self, config: HeavyNetworkConfig, spec: InputSpec, rows: TrainingRows, inputs: TrainingInputs,
        valid_place: np.ndarray | None = None,
    ):
        """rows: of the training table. valid_place: of the rows to stop by the codes of place and surface, int64[n]."""
        self.config, self.spec, self.rows, self.inputs, self.valid_place = config, spec, rows, inputs, valid_place
        self.tasks, self.valid, self.progress = inputs.tasks, inputs.valid, inputs.progress
        self.device = rows.features.device
        self.task_weights = torch.tensor([config.task_weights.get(t, 1.0) for t in self.tasks], device=self.device)
        # batch normalisation needs two rows
        self.starts = [s for s in range(0, len(rows), config.batch_size) if len(rows) - s >= 2]
        self.epochs = max(config.epochs, -(-config.min_steps // max(len(self.starts), 1)))
        self._valid_inputs: Sequence | None = None
        self.done: list[dict] = []
        self.history: list[dict] = []

    @property
    def multiplications(self) -> int:
        """Of one step forward, about."""
        dense = sum(p.numel() for name, p in self._network(0).named_parameters() if "embedding" not in name)
        return self.config.batch_size * dense

    def run(self) -> tuple[list[HeavyNetwork], list[dict]]:
        """Networks with their best weights, and the history of all epochs."""
        config = self.config
        interrupted = self._load()
        with self.progress.step("heavy ranker", total=config.members * self.epochs * len(self.starts)) as step:
            step.advance((len(self.done) * self.epochs + (interrupted or {}).get("epoch", 0)) * len(self.starts))
            for number in range(len(self.done), config.members):
                self.done.append(self._train_member(number, interrupted, step))
                interrupted = None
                self._save(None)
        networks = []
        for weights in self.done:
            network = self._network(0)
            network.load_state_dict(weights)
            networks.append(network.eval())
        return networks, self.history

    def _network(self, number: int) -> HeavyNetwork:
        with torch_seed(self._seed_of(number, 0)):
            network = HeavyNetwork(self.config, self.spec, len(self.tasks), self.rows.log_dwell is not None)
        log_dwell = None
        if self.rows.log_dwell is not None:
            known = self.rows.log_dwell[~torch.isnan(self.rows.log_dwell)]
            log_dwell = (float(known.mean()), float(known.var()))
        network.set_base_rates(self.rows.labels.mean(dim=0).cpu(), log_dwell)
        warm = self.inputs.warm
        if warm is not None:
            network.load_state_dict(earlier_weights(warm, self.config, network, self.spec, self.valid.names, number))
        return network.to(self.device)

    def _seed_of(self, number: int, epoch: int) -> int:
        return int(np.random.SeedSequence([self.inputs.seed, number, epoch]).generate_state(1)[0])

    def _optimiser(self, network: HeavyNetwork, balance: TaskBalance) -> torch.optim.Optimizer:
        """AdamW; embeddings, biases and batch norm are not decayed (embeddings have a penalty of their own)."""
        decayed, plain = [], []
        for name, parameter in network.named_parameters():
            is_matrix = parameter.ndim >= 2 and not name.endswith("bias") and "embedding" not in name
            (decayed if is_matrix else plain).append(parameter)
        plain += balance.parameters()
        groups = [{"params": decayed, "weight_decay": self.config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        return AdamW(groups, lr=self.config.learning_rate)

    def _train_member(self, number: int, interrupted: dict | None, step: Step) -> dict[str, torch.Tensor]:
        config, network = self.config, self._network(number)
        average = {k: v.clone() for k, v in network.state_dict().items()}
        balance = TaskBalance(config, len(self.tasks), self._seed_of(number, 0)).to(self.device)
        member = _Member(network, self._optimiser(network, balance), average, balance)
        if interrupted is not None:
            self._put_back(member, interrupted)
        while member.epoch < self.epochs and member.epoch - member.best_epoch < config.patience:
            member.epoch += 1
            loss = self._train_epoch(member, number, step)
            served = member.average if config.average else network.state_dict()
            metric, figures = self._validate(served, member.epoch)
            # without validation rows nothing can be compared: the last epoch is taken
            better = metric is None or metric > member.best + config.min_delta
            if better:
                member.best, member.best_epoch = -np.inf if metric is None else metric, member.epoch
                member.best_weights = {k: v.detach().cpu().clone() for k, v in served.items()}
            self.history.append(
                {"member": number, "epoch": member.epoch, "loss": loss, "metric": metric, "best": better, **figures}
            )
            step.describe(f"epoch {member.epoch}" + ("" if metric is None else f", validation {metric:.4f}"))
            self._save(member)
        step.advance((self.epochs - member.epoch) * len(self.starts))
        return member.best_weights

    def _train_epoch(self, member: _Member, number: int, step: Step) -> float:
        """One pass over the rows in random order; returns the mean loss."""
        config, network = self.config, member.network
        network.train()
        live = network.state_dict()  # views of the weights as they change
        floating = [k for k, v in live.items() if v.is_floating_point()]
        averages, weights = [member.average[k] for k in floating], [live[k] for k in floating]
        total = torch.zeros((), device=self.device)
        done = (member.epoch - 1) * len(self.starts)
        watch = ConstantHeadWatch(len(self.tasks), self.device)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch_seed(self._seed_of(number, member.epoch), devices):
            order = self._order()
            for start in self.starts:
                batch = order[start : start + config.batch_size]
                for group in member.optimiser.param_groups:
                    group["lr"] = self._learning_rate(done)
                member.optimiser.zero_grad(set_to_none=True)
                losses, rest, logits = self._losses(network, batch)
                loss = member.balance.backward(losses, rest, network)
                if suspects := watch.see(logits):
                    self._stop_if_collapsed(network, member.epoch, suspects)
                torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
                member.optimiser.step()
                if config.average:
                    decay = min(config.average_decay, (1 + done) / (10 + done))
                    with torch.no_grad():
                        torch._foreach_lerp_(averages, weights, 1 - decay)
                total += loss
                done += 1
                step.advance()
        mean = float(total) / max(len(self.starts), 1)
        if not np.isfinite(mean):
            raise RecsysError(
                f"the heavy ranker's loss is {mean} in epoch {member.epoch}",
                "lower ranking.heavy.learning_rate, and look for extreme values with `recsys data describe`",
            )
        return mean

    def _learning_rate(self, done: int) -> float:
        """Linear warm-up, then half a cosine (Loshchilov & Hutter, ICLR 2017)."""
        config = self.config
        total = self.epochs * len(self.starts)
        warmup = max(int(config.warmup_share * total), 1)
        if done < warmup:
            return config.learning_rate * (done + 1) / warmup
        progress = (done - warmup) / max(total - warmup, 1)
        share = config.final_rate + (1 - config.final_rate) * 0.5 * (1 + np.cos(np.pi * progress))
        return max(config.learning_rate * float(share), LEARNING_RATE_FLOOR)

    def _order(self) -> torch.Tensor:
        """Rows in random order; those of one request side by side where they are compared."""
        if self.rows.group is None:
            return torch.randperm(len(self.rows)).to(self.device)
        key = torch.randperm(int(self.rows.group.max()) + 1)[self.rows.group.cpu()]
        return torch.argsort(key, stable=True).to(self.device)

    def _losses(self, network: HeavyNetwork, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss of each action [T], weighed as set; what no one action owns: dwell, penalty of embeddings; logits."""
        config, rows = self.config, self.rows
        if rows.prepared is None:
            numbers, codes = network.input.prepare(rows.features[batch])
        else:
            numbers, codes = (None if part is None else part[batch] for part in rows.prepared)
        sides = None
        if self.spec.side is not None:
            arrays = self.spec.side.arrays(rows.entities.take(batch.cpu().numpy()))
            sides = {name: torch.from_numpy(a).to(self.device) for name, a in arrays.items()}
        place = None if rows.place is None else rows.place[batch]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            logits, mean, log_variance, rest = network.raw(numbers, codes, sides, place)
        logits = logits.float()
        labels, weight = (None if x is None else x[batch] for x in (rows.labels, rows.weight))
        targets = labels if rows.taught is None else rows.taught[batch]
        losses = weighted_bce(logits, targets, weight, config.focal_gamma if config.loss == "focal" else 0.0)
        if rows.group is not None:
            losses = losses + config.listwise * listwise_softmax(logits, labels, rows.group[batch], weight)
        if mean is not None and config.dwell_loss == "quantile":
            rest = rest + config.dwell_weight * pinball(
                mean.float(), rows.log_dwell[batch], config.dwell_quantile, weight
            )
        elif mean is not None:
            rest = rest + config.dwell_weight * gaussian_nll(
                mean.float(), log_variance.float(), rows.log_dwell[batch], weight
            )
        return losses * self.task_weights, rest, logits

    def _validate(self, weights: dict[str, torch.Tensor], epoch: int) -> tuple[float | None, dict]:
        """The early-stopping metric (higher is better; None without validation rows) and figures per task.

        Raises RecsysError where a head has collapsed.
        """
        valid, config = self.valid, self.config
        network = self._network(0)
        network.load_state_dict(weights)
        if len(valid) == 0:
            self._stop_if_collapsed(network, epoch, range(len(self.tasks)))
            return None, {}
        logits = self._valid_logits(network.eval())
        if not np.isfinite(logits).all():
            raise RecsysError(
                "the heavy ranker predicts values that are not numbers", "lower ranking.heavy.learning_rate"
            )
        if len(suspects := np.flatnonzero(constant_heads(logits))):
            self._stop_if_collapsed(network, epoch, suspects)
        auc = {t: roc_auc(valid.labels[t], logits[:, i]) for i, t in enumerate(self.tasks)}
        counted = [
            auc[task] for task in self.tasks
            if valid.labels[task].sum() >= config.min_valid_positives and np.isfinite(auc[task])
        ]
        losses = [log_loss(valid.labels[t], sigmoid(logits[:, i])) for i, t in enumerate(self.tasks)]
        metric = float(np.mean(counted)) if counted else -float(np.mean(losses))
        auc = {task: None if np.isnan(value) else value for task, value in auc.items()}
        return metric, {"auc": auc, "log_loss": float(np.mean(losses))}

    def _valid_logits(self, network: HeavyNetwork) -> np.ndarray:
        """float32[n, T] of the validation rows, which are normalised once where they fit into memory."""
        valid, side = self.valid, self.spec.side
        entities = None if side is None else valid.entities
        with torch.inference_mode():
            if self._valid_inputs is None:
                found = batches(valid.values, entities, side, VALIDATION_ROWS, self.device)
                prepared = ((network.input.prepare(x), sides) for x, *sides in found)
                self._valid_inputs = list(prepared) if valid.values.size <= PREPARED_VALUES else ()
            inputs = self._valid_inputs or (
                (network.input.prepare(x), sides)
                for x, *sides in batches(valid.values, entities, side, VALIDATION_ROWS, self.device)
            )
            parts = []
            for number, ((numbers, codes), sides) in enumerate(inputs):
                named = None if side is None else dict(zip(side.inputs, sides, strict=True))
                logits = network.raw(numbers, codes, named, self._place(number * VALIDATION_ROWS))[0]
                parts.append(logits.cpu().numpy())
        return np.concatenate(parts)

    def _stop_if_collapsed(self, network: HeavyNetwork, epoch: int, suspects: Sequence[int]) -> None:
        """Raises RecsysError where one of these heads gives rows from all over the training rows one probability.

        As they are served, without dropout and in float32: a batch in bfloat16 can look flat where it is not.
        """
        rows, training = self.rows, network.training
        sample = torch.arange(0, len(rows), max(len(rows) // CONFIRM_ROWS, 1))[:CONFIRM_ROWS]
        values = rows.features[sample.to(self.device)]
        entities = None if self.spec.side is None else rows.entities.take(sample.numpy())
        if entities is None and torch.equal(values.amin(dim=0), values.amax(dim=0)):
            return  # rows that are alike have one probability
        served = ServedNetwork([network], 0.0).to(self.device).eval()
        with torch.inference_mode():
            (inputs,) = batches(values.cpu().numpy(), entities, self.spec.side, CONFIRM_ROWS, self.device)
            logits = served.logits(*inputs)[0].cpu().numpy()
        network.train(training)
        heads = [t for t in suspects if constant_heads(logits)[t]]
        if heads:
            labels = rows.labels.cpu().numpy()
            raise collapsed(epoch, self.tasks, logits, labels, heads, self.config.learning_rate)

    def _place(self, start: int) -> torch.Tensor | None:
        """Codes of place of validation rows: clicks on them are due to their places too, so these are counted in."""
        if self.valid_place is None:
            return None
        codes = torch.from_numpy(self.valid_place[start : start + VALIDATION_ROWS]).to(self.device)
        return torch.where(codes < len(self.spec.places), codes, 0)

    def _save(self, member: _Member | None) -> None:
        content = {"done": self.done, "history": self.history, "member": None}
        if member is not None and self.inputs.resume is not None:
            content["member"] = {
                "network": member.network.state_dict(), "optimiser": member.optimiser.state_dict(),
                "average": member.average, "epoch": member.epoch, "best": float(member.best),
                "best_epoch": member.best_epoch, "best_weights": member.best_weights,
                "balance": member.balance.state_dict(), "balance_draws": member.balance.generator.get_state(),
            }
        self.inputs.keep(content)

    def _load(self) -> dict | None:
        """Take over what an interrupted training of the same settings and rows left."""
        content = self.inputs.kept()
        if content is None:
            return None
        self.done, self.history = content["done"], content["history"]
        return content["member"]

    def _put_back(self, member: _Member, state: dict) -> None:
        member.network.load_state_dict(state["network"])
        member.optimiser.load_state_dict(state["optimiser"])
        member.average = {k: v.to(self.device) for k, v in state["average"].items()}
        member.epoch, member.best = state["epoch"], state["best"]
        member.best_epoch, member.best_weights = state["best_epoch"], state["best_weights"]
        member.balance.load_state_dict(state["balance"])
        member.balance.generator.set_state(state["balance_draws"])
