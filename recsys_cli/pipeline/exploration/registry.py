"""The registry of strategies: `strategy` of the settings → class."""

from __future__ import annotations

from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.pipeline.exploration.config import ExplorationConfig
from recsys_cli.pipeline.exploration.epsilon_greedy import EpsilonGreedy
from recsys_cli.pipeline.exploration.gaussian_thompson import GaussianThompson
from recsys_cli.pipeline.exploration.learned_policy import LearnedPolicy
from recsys_cli.pipeline.exploration.lin_ucb import LinUcb
from recsys_cli.pipeline.exploration.linear_thompson import LinearThompson
from recsys_cli.pipeline.exploration.strategy import Strategy
from recsys_cli.pipeline.exploration.thompson import Thompson
from recsys_cli.pipeline.exploration.ucb1 import Ucb1

STRATEGIES: dict[str, type[Strategy]] = {
    strategy.name: strategy
    for strategy in (EpsilonGreedy, Ucb1, Thompson, GaussianThompson, LinUcb, LinearThompson, LearnedPolicy)
}


def make_strategy(config: ExplorationConfig) -> Strategy:
    """The configured strategy; raises ConfigError for one that is not there."""
    if config.strategy not in STRATEGIES:
        told = did_you_mean(config.strategy, STRATEGIES, f"known are: {', '.join(STRATEGIES)}")
        raise ConfigError(f"pipeline.exploration.strategy: no strategy {config.strategy!r}", told)
    return STRATEGIES[config.strategy](config)
