"""The order in which stages run: the usual one or that of the settings, within the rules of the kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.pipeline.stage import Filter, Hydrator, Scorer, Selector, SideEffect, Source, Stage

Kinds = Mapping[str, type[Stage]]
"""Name of a stage → its class."""
WHERE = "pipeline.sequence"


def usual_sequence(built_in: Kinds, added: Kinds) -> list[str]:
    """The built-in stages in the order given, with each added one where its kind belongs.

    A source stands behind the first source, a filter behind the filters before ranking, a hydrator before the first
    scorer, a scorer behind the last one, a selector before exploration and the last checks, what checks the finished
    slate before the final cut, a side effect at the end. Those that say before which stage they stand (`Stage.before`)
    stand there.
    """
    names, kinds = list(built_in), {**built_in, **added}
    for name, kind in added.items():
        place = names.index(kind.before) if kind.before in names else _place(kind, [kinds[n] for n in names])
        names.insert(place, name)
    return names


def _place(kind: type[Stage], stages: list[type[Stage]]) -> int:
    scorers = _where(stages, lambda s: issubclass(s, Scorer))
    if issubclass(kind, Source):
        return _where(stages, lambda s: issubclass(s, Source))[0] + 1
    if issubclass(kind, Filter) and kind.again:
        return max(i for i in range(scorers[0]) if issubclass(stages[i], Filter)) + 1
    if issubclass(kind, Hydrator):
        return scorers[0]
    if issubclass(kind, Scorer):
        return scorers[-1] + 1
    if issubclass(kind, Selector):
        return next(i for i in range(scorers[-1], len(stages)) if _late(stages[i]) or getattr(stages[i], "last", False))
    if issubclass(kind, Filter):
        return _where(stages, _final)[0]
    return len(stages)


def check_sequence(names: Sequence[str], kinds: Kinds) -> None:
    """Raises ConfigError unless every stage stands in the sequence once, where its kind may stand.

    Sources come first, then scorers, then selectors, then side effects; filters and hydrators stand anywhere behind
    the first source. What checks the finished slate stands behind all scorers and selectors but the final cut, behind
    which nothing picks or filters. A stage stands behind those that give the scores it reads.
    """
    for name in names:
        if name not in kinds:
            hint = did_you_mean(name, kinds, f"known are: {', '.join(kinds)}")
            raise ConfigError(f"{WHERE}: there is no stage {name!r}", hint)
        if names.count(name) > 1:
            raise ConfigError(f"{WHERE}: stage {name!r} stands twice", "name each stage once")
    if missing := [name for name in kinds if name not in names]:
        told = ", ".join(missing)
        raise ConfigError(
            f"{WHERE} leaves out {told}", "name every stage: what is not to run is switched off by its own settings"
        )
    if not issubclass(kinds[names[0]], Source):
        raise ConfigError(f"{WHERE}: {names[0]!r} stands first and is no source", "begin with a source")
    for place, name in enumerate(names):
        for later in names[place + 1 :]:
            if reason := _wrong(kinds[name], kinds[later]):
                raise ConfigError(f"{WHERE}: {name!r} stands before {later!r}, but {reason}", f"put {later!r} first")


def _wrong(stage: type[Stage], later: type[Stage]) -> str | None:
    """Why a stage may not stand somewhere before another; None where it may."""
    rank, behind = _rank(stage), _rank(later)
    if rank is not None and behind is not None and rank > behind:
        return "sources come before scorers, scorers before selectors, the final cut and side effects last"
    if _final(stage) and issubclass(later, Filter):
        return "nothing is filtered behind the final cut: the slate would be short"
    if issubclass(stage, SideEffect) and not issubclass(later, SideEffect):
        return "side effects come last"
    if _late(stage) and issubclass(later, (Source, Scorer, Selector)) and not _final(later):
        return "it checks what all others leave"
    # those that change the same score may stand either way, both behind what first gives it
    read = [n for n in later.gives if n in stage.reads and not (n in stage.gives and n in later.reads)]
    if read:
        return f"it reads the scores {', '.join(read)} of that"
    return None


def _rank(kind: type[Stage]) -> int | None:
    """Place among the kinds that follow each other; None for filters and hydrators."""
    if _final(kind):
        return 3
    return next((i for i, each in enumerate((Source, Scorer, Selector)) if issubclass(kind, each)), None)


def _final(kind: type[Stage]) -> bool:
    return issubclass(kind, Selector) and kind.final


def _late(kind: type[Stage]) -> bool:
    return issubclass(kind, Filter) and not kind.again


def _where(stages: list[type[Stage]], holds: Callable[[type[Stage]], bool]) -> list[int]:
    return [i for i, stage in enumerate(stages) if holds(stage)]
