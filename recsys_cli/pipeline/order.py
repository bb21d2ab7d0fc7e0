"""What puts candidates into their order: one source, all of them together, or a ranker; chosen for people with a
history and for people without one."""

from __future__ import annotations

from dataclasses import asdict, dataclass

MERGE, FUSION, WEIGHTED, LIGHT, RELEVANCE, HEAVY = "merge", "fusion", "weighted_fusion", "light", "relevance", "heavy"
OF_SOURCES = (MERGE, FUSION, WEIGHTED)
"""Orders that the sources give together, without a ranker."""
RANKERS = (LIGHT, RELEVANCE, HEAVY)
"""Orders that a model gives, the cheapest first."""
CHOSEN = "chosen"


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

    def to_json(self) -> dict:
        """What `Order(**…)` takes."""
        return asdict(self)


def order_in_words(account: dict, *, full: bool = True) -> list[str]:
    """Sentences on what training chose to order the lists, from the account that it keeps with a run; without `full`
    the choice alone."""
    if "criterion" not in account:
        return []
    if not full:
        known, new = (account[side]["chosen"] for side in ("known", "new"))
        return [f"Ordered by {known} for people with a history, by {new} for new ones (--full says why)."]
    out = []
    for side, people in (("known", "people with a history"), ("new", "new people")):
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
    return [*out, f"Compared by {account['criterion']}."]


def best_part(account: dict) -> tuple[str, float, float] | None:
    """(best single source for known people, its figure, that of the order that was chosen); None where unknown."""
    row = account.get("known", {})
    figures = {name: f["value"] for name, f in row.get("figures", {}).items()}
    parts = {name: v for name, v in figures.items() if name.partition(" ")[0] not in (*OF_SOURCES, *RANKERS)}
    if not parts or row["chosen"] not in figures:
        return None
    best = max(parts, key=parts.get)
    return best, parts[best], figures[row["chosen"]]
