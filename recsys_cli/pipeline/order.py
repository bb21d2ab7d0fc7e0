"""What puts candidates into their order: one source, all of them together, or a ranker; chosen for people with a
history and for people without one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from recsys_cli.errors import ConfigError, did_you_mean

MERGE, FUSION, WEIGHTED, LIGHT, RELEVANCE, HEAVY = "merge", "fusion", "weighted_fusion", "light", "relevance", "heavy"
OF_SOURCES = (MERGE, FUSION, WEIGHTED)
"""Orders that the sources give together, without a ranker."""
RANKERS = (LIGHT, RELEVANCE, HEAVY)
"""Orders that a model gives, the cheapest first."""
CHOSEN = "chosen"
SIDES = {"known": "people with a history", "new": "new people"}


@dataclass(frozen=True)
class Order:
    """The order of the candidates of people with a history and of new people.

    An order is the name of a source (its list, then everything else), "merge" (reciprocal-rank fusion), "fusion"
    (mean of the sources' standardised scores), "weighted_fusion" (their weighted sum), "light", "relevance" or "heavy"
    (the utility, times the relevance to the power `exponent`).
    """

    known: str = HEAVY
    new: str = HEAVY
    exponent: float = 0.0
    caps: bool = True
    """whether the caps of the slate are kept where `pipeline.diversity.enabled` is auto"""

    @property
    def orders(self) -> set[str]:
        """Those of the two groups of people."""
        return {self.known, self.new}

    @property
    def ranked(self) -> bool:
        """Whether any of the two is a ranker's."""
        return bool(self.orders & set(RANKERS))

    @property
    def of_requests(self) -> bool:
        """Whether any of the two is what was learned from requests."""
        return self.related or bool(self.orders & {LIGHT, WEIGHTED})

    @property
    def related(self) -> bool:
        """Whether the relevance has to be predicted."""
        return RELEVANCE in self.orders or (HEAVY in self.orders and self.exponent > 0)

    def to_json(self) -> dict[str, Any]:
        """What `Order(**…)` takes."""
        return asdict(self)


def order_in_words(account: dict[str, Any], *, full: bool = True) -> list[str]:
    """Sentences on what training chose to order the lists, from the account that it keeps with a run; without `full`
    the choice alone."""
    if "criterion" not in account:
        return []
    if not full:
        known, new = (account[side]["chosen"] for side in ("known", "new"))
        return [f"Ordered by {known} for people with a history, by {new} for new ones (--full says why)."]
    out = []
    for side, people in SIDES.items():
        row = account[side]
        figures = sorted(row["figures"].items(), key=lambda pair: -pair[1]["value"])
        shown = ", ".join(f"{name} {figure['value']:.4f}" for name, figure in figures[:6])
        told = f" ({shown}; {row['users']:,} users)" if shown else ""
        out.append(f"Lists of {people} are ordered by {row['chosen']}: {row['why']}{told}.")
    caps = account.get("caps", {})
    if caps and not caps["kept"]:
        out.append(
            f"The caps of the slate are off: they cost {1 - caps['after'] / max(caps['before'], 1e-12):.1%} "
            "(pipeline.diversity.enabled: true keeps them)."
        )
    compared = any(account[side]["figures"] for side in ("known", "new"))
    return [*out, f"Compared by {account['criterion']}."] if compared else out


def best_part(account: dict[str, Any], side: str = "known", order: str = CHOSEN) -> tuple[str, float, float] | None:
    """(best single source for people of a side, its figure, that of the order: the chosen one or what the settings
    name); None where unknown."""
    row = account.get(side, {})
    figures = {name: f["value"] for name, f in row.get("figures", {}).items()}
    parts = {name: v for name, v in figures.items() if name.partition(" ")[0] not in (*OF_SOURCES, *RANKERS)}
    order = row.get("chosen") if order == CHOSEN else order
    if not parts or order not in figures:
        return None
    best = max(parts, key=parts.__getitem__)
    return best, parts[best], figures[order]


def below_best_part(account: dict[str, Any], known: str = CHOSEN, new: str = CHOSEN) -> list[str]:
    """A sentence for each side whose lists are put in an order that the best single source beats on the validation
    window, as happens where the settings name one: `known` or `new`."""
    out = []
    for (side, people), named in zip(SIDES.items(), (known, new), strict=True):
        found = best_part(account, side, named)
        if found is not None and found[2] < found[1]:
            order = account[side]["chosen"] if named == CHOSEN else named
            out.append(
                f"lists of {people} are ordered by {order}, which has {found[2]:.4f} on the validation window, "
                f"below {found[0]} alone with {found[1]:.4f}"
            )
    return out


def check_named(name: str, sources: Iterable[str]) -> None:
    """Raises ConfigError where `ranking.choose` names nothing that could order lists; sources: all that are configured.
    """
    known = ["auto", *OF_SOURCES, *RANKERS, *sources]
    if name not in known:
        raise no_order("ranking.choose", name, known)


def no_order(key: str, name: str, known: list[str]) -> ConfigError:
    """What a setting is refused with that names no order."""
    return ConfigError(
        f"{key}: {name!r} orders nothing here", did_you_mean(name, known, f"known are: {', '.join(known)}")
    )
