"""`recsys features`: what the rankers see, defined once; and the numbers of one user and one item."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.cli.options import RunOption

if TYPE_CHECKING:
    from recsys_cli.features.spec import FeatureSpec

group = typer.Typer(
    no_args_is_help=True, help="What the rankers see: definitions, and the numbers of one case.", rich_markup_mode=None
)
app.add_typer(group, name="features")
Group = Annotated[str | None, typer.Option("--group", help="Only user, item, author, pair or context")]


@command(group, "list")
def list_features(call: Invocation, group_name: Group = None, run: RunOption = None) -> None:
    """Every feature with group, type, meaning and formula: of a run, or of the dataset where nothing is trained."""
    spec = _spec(call, run)
    kept = _of_group(list(spec.features), group_name)
    rows = [
        {"name": f.name, "group": f.group, "type": f.kind, "meaning": f.meaning, "formula": f.formula} for f in kept
    ]

    def render(console) -> None:
        from rich.markup import escape
        from rich.table import Table

        table = Table("name", "group", "type", "meaning and formula", box=None, header_style="bold", pad_edge=False)
        for row in rows:
            told = f"{escape(row['meaning'])}\n[dim]{escape(row['formula'])}[/]"
            table.add_row(escape(row["name"]), row["group"], row["type"], told)
        console.print(table)
        console.print(f"{len(rows)} features", highlight=False)

    call.emit(rows, render)


@command(group, "show")
def show(
    call: Invocation,
    user: Annotated[str, typer.Option("--user", "-u", help="User id")],
    item: Annotated[str, typer.Option("--item", "-i", help="Item id")],
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Count the log before this time (ISO 8601)  [default: as served]"),
    ] = None,
    group_name: Group = None,
    context: Annotated[
        list[str] | None, typer.Option("--context", metavar="KEY=VALUE", help="surface, device, … (repeatable)")
    ] = None,
    run: RunOption = None,
) -> None:
    """The features of one user and one item, each with what its number says."""
    from recsys_cli.cli.recommend import parse_context
    from recsys_cli.data.intact import open_intact
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.inspection import inspect_user_item

    config = call.config
    engine = RecommendationEngine.load(config.paths.artifacts, run, config.pipeline, trace=call.trace)
    values = parse_context(context or []) | ({} if at is None else {"time": at})
    dataset = None if at is None else open_intact(config.paths.data, config.paths.artifacts)
    case = inspect_user_item(engine, user, item, engine.context(values), dataset)
    rows = _of_group(case.rows(engine.bundle.catalogue.names), group_name)
    moment = None if engine.manifest.windows.places else _time(case.now)
    document = {"user": case.user, "item": case.item, "time": moment, "features": rows}

    def render(console) -> None:
        from rich.markup import escape
        from rich.table import Table

        told = f"[bold]User {escape(str(case.user))} and item {escape(str(case.item))}[/] · counted "
        console.print(told + (f"before {moment}" if moment else "over all rows, in their order"), highlight=False)
        table = Table("feature", "group", "value", "says", "meaning", box=None, header_style="bold", pad_edge=False)
        table.columns[2].justify = table.columns[3].justify = "right"
        for row in rows:
            cells = (row["name"], row["group"], f"{row['value']:.4f}", row["reading"], row["meaning"])
            table.add_row(*(escape(c) for c in cells))
        console.print(table)

    call.emit(document, render, rows)


def _spec(call: Invocation, run: str | None) -> FeatureSpec:
    import orjson

    from recsys_cli.artifacts.runs import RunStore
    from recsys_cli.features.define import create_spec
    from recsys_cli.features.spec import FeatureSpec

    config = call.config
    store = RunStore(config.paths.artifacts)
    if run is not None or store.current() is not None:
        document = orjson.loads((store.open(run).bundle / "bundle.json").read_bytes())
        return FeatureSpec.from_json(document["features"])
    from recsys_cli.data.intact import open_intact

    call.say("nothing is trained: the definitions are those of the dataset, without similarities of the sources")
    dataset = open_intact(config.paths.data, config.paths.artifacts)
    log, names = dataset.log, dataset.categories
    return create_spec(
        config.features, dataset.catalogue, positive=log.positive_actions, negative=log.negative_actions,
        has_dwell=log.dwell is not None, surfaces=names.get("surface", ()), devices=names.get("device", ()),
        context=log.context,
    )


def _of_group(features: list, name: str | None) -> list:
    """Those of one group; raises UsageError where there is none."""
    if name is None:
        return features
    from recsys_cli.errors import UsageError

    def group_of(f) -> str:
        return f["group"] if isinstance(f, dict) else f.group

    kept = [f for f in features if group_of(f) == name]
    if not kept:
        known = ", ".join(dict.fromkeys(group_of(f) for f in features))
        raise UsageError(f"no feature is of group {name!r}", f"groups are {known}")
    return kept


def _time(now: int) -> str:
    import datetime as dt

    return dt.datetime.fromtimestamp(now / 1e6, dt.UTC).isoformat(timespec="seconds")
