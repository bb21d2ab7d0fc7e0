"""`recsys explain`: why a user and an item got their score, or why the item is not in the slate; an author's reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.cli.options import RunOption
from recsys_cli.errors import UsageError

if TYPE_CHECKING:
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.features.spec import Feature
    from recsys_cli.inspection import UserItem
    from recsys_cli.ranking.attribution import Attribution

UserOption = Annotated[str | None, typer.Option("--user", "-u", help="User id", show_default=False)]
ItemOption = Annotated[str | None, typer.Option("--item", "-i", help="Item id", show_default=False)]
MissingOption = Annotated[
    bool, typer.Option("--why-not", help="Say which stage kept the item out of the user's slate, and by how much")
]
AuthorOption = Annotated[str | None, typer.Option("--author", help="Author id, with --reach", show_default=False)]
ReachOption = Annotated[
    bool, typer.Option("--reach", help="Say where the author's items are lost, stage by stage, over all users")
]
NumberOption = Annotated[
    int | None,
    typer.Option("--slate", min=1, help="Items a slate  [default: pipeline.slate_size]", show_default=False),
]
ActionOption = Annotated[
    str | None,
    typer.Option(
        "--action", metavar="ACTION", help="Head to explain, or dwell  [default: what adds most to the utility]",
        show_default=False,
    ),
]
RankerOption = Annotated[
    Literal["heavy", "light"], typer.Option("--ranker", help="Whose score", show_default=True)
]
AtOption = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="Count the log before this time (ISO 8601)  [default: as served]"),
]
ContextOption = Annotated[
    list[str] | None, typer.Option("--context", metavar="KEY=VALUE", help="surface or device (repeatable)")
]
TopOption = Annotated[int, typer.Option("-n", "--top", min=1, help="Features to show in the table")]


@command(app, "explain")
def explain(
    call: Invocation,
    user: UserOption = None,
    item: ItemOption = None,
    missing: MissingOption = False,
    author: AuthorOption = None,
    reach: ReachOption = False,
    number: NumberOption = None,
    action: ActionOption = None,
    ranker: RankerOption = "heavy",
    at: AtOption = None,
    context: ContextOption = None,
    top: TopOption = 15,
    run: RunOption = None,
) -> None:
    """Attribute a ranker's score of one user and one item to its features; --why-not says which stage kept the item
    out of the slate, --author with --reach where an author's items are lost over all users."""
    if reach or author is not None:
        _check_alone(reach and author is not None, user, item, missing)
        _reach(call, author, number, run)
        return
    if user is None or item is None:
        raise UsageError("explain needs --user and --item", "or --author with --reach")
    if missing:
        _why_not(call, user, item, number, context or [], run)
        return
    if ranker == "light" and action is not None:
        raise UsageError("the light ranker has one score, of any positive action", "leave out --action")
    from recsys_cli.engine import RecommendationEngine

    config = call.config
    engine = RecommendationEngine.load(config.paths.artifacts, run, config.pipeline, trace=call.trace)
    case = _case(call, engine, user, item, context or [], at)
    document = _document(call, engine, case, ranker, action, run)
    document["words"] = _in_words(call, document)
    call.emit(document, lambda console: _render(console, document, top), document["features"])


def _case(
    call: Invocation, engine: RecommendationEngine, user: str, item: str, context: list[str], at: str | None
) -> UserItem:
    from recsys_cli.cli.recommend import parse_context
    from recsys_cli.data.intact import open_intact
    from recsys_cli.inspection import inspect_user_item

    values = parse_context(context) | ({} if at is None else {"time": at})
    dataset = None if at is None else open_intact(call.config.paths.data, call.config.paths.artifacts)
    return inspect_user_item(engine, user, item, engine.context(values), dataset)


def _document(
    call: Invocation, engine: RecommendationEngine, case: UserItem, ranker: str, action: str | None, run: str | None
) -> dict:
    """What a score is made of, as the JSON of this command; the largest contributions first."""
    from recsys_cli.features.readings import reading

    predictions = {} if engine.bundle.heavy is None else engine.bundle.heavy.predict(case.values[None], case.entities)
    predictions = {name: float(column[0]) for name, column in predictions.items()}
    if ranker == "light":
        told, head = _light(engine, case), "taken"
    else:
        head = action or _leading(engine, predictions)
        told = _heavy(call, engine, run, case, head)
    features = {f.name: f for f in case.features}
    at_names = {f.name: float(v) for f, v in zip(case.features, case.values, strict=True)}
    if ranker == "light":
        asked = _as_candidate(engine, case, told.names)
        features = {name: _of_request(name) for name in asked} | features
        at_names |= asked
    names = engine.bundle.catalogue.names
    rows = [
        {
            "name": name, "group": features[name].group, "value": at_names[name],
            "reading": reading(features[name], at_names[name], names.get(features[name].vocabulary, ())),
            "contribution": float(part), "meaning": features[name].meaning,
        }
        for name, part in zip(told.names, told.contributions, strict=True)
    ]
    rows.sort(key=lambda r: -abs(r["contribution"]))
    moment = None if engine.manifest.windows.places else _time(case.now)
    return {
        "user": case.user, "item": case.item, "time": moment, "run": engine.manifest.id, "ranker": ranker,
        "action": head, "method": told.method, "baseline": told.baseline, "unit": told.unit, "base": told.base,
        "base_prediction": told.base_prediction, "score": told.score, "prediction": told.prediction,
        "calibration_curve": told.curve, "completeness_error": told.error, "predictions": predictions,
        "features": rows,
    }


def _in_words(call: Invocation, document: dict) -> str | None:
    """What the language model of the settings says of a score, if it is to word reasons."""
    if not call.config.language_model.reasons:
        return None
    from recsys_cli.language_model.reasons import word_score

    words, failure = word_score(call.config.language_model, document, call.progress)
    if words is None:
        call.say(f"language model: no words for this score ({failure})")
    return words


def _check_alone(both: bool, user: str | None, item: str | None, missing: bool) -> None:
    if not both:
        raise UsageError("--reach goes with --author", "for example: recsys explain --author 12 --reach")
    if user is not None or item is not None or missing:
        raise UsageError("--reach is over all users and all items of the author", "leave out --user and --item")


def _engine(call: Invocation, run: str | None) -> RecommendationEngine:
    from recsys_cli.engine import RecommendationEngine

    config = call.config
    return RecommendationEngine.load(
        config.paths.artifacts, run, config.pipeline, threads=config.threads, trace=call.trace
    )


def _why_not(
    call: Invocation, user: str, item: str, number: int | None, context: list[str], run: str | None
) -> None:
    from recsys_cli.cli.recommend import parse_context
    from recsys_cli.cli.way_tables import render_why_not

    answer = _engine(call, run).why_not(user, item, number, parse_context(context))
    document = answer.to_dict()
    call.emit(document, lambda console: render_why_not(console, answer), document["steps"])


def _reach(call: Invocation, author: str, number: int | None, run: str | None) -> None:
    from recsys_cli.cli.way_tables import render_reach

    answer = _engine(call, run).reach(author, None, number, call.progress)
    document = answer.to_dict()
    call.emit(document, lambda console: render_reach(console, answer), document["steps"])


def _light(engine: RecommendationEngine, case: UserItem) -> Attribution:
    import numpy as np

    from recsys_cli.errors import ArtifactError
    from recsys_cli.ranking.attribution import explain_light

    light = engine.bundle.light
    if light is None:
        raise ArtifactError(f"run {engine.manifest.id} has no light ranker", "explain the heavy one")
    values = _as_candidate(engine, case, light.names)
    return explain_light(light, np.array([values[name] for name in light.names], np.float32))


def _as_candidate(engine: RecommendationEngine, case: UserItem, names: tuple[str, ...]) -> dict[str, float]:
    """Features of the item among what the sources propose to the user now; UsageError where it is not among that."""
    import numpy as np

    from recsys_cli.features.context import Context
    from recsys_cli.pipeline.query import Query
    from recsys_cli.pipeline.request_features import candidate_features
    from recsys_cli.pipeline.scoring import similarities

    users = np.array([engine.position(case.user)], np.int32)
    found = engine.slates(users, keep_sourced=True).hydrated
    place = np.flatnonzero(found.items[0] == engine.bundle.item_ids.position(case.item))
    if not len(place):
        raise UsageError(
            f"item {case.item!r} is not among the candidates of user {case.user!r}",
            "the light ranker compares candidates of one request; explain the heavy one",
        )
    context = Context(now=engine.state.now)
    query = Query(users, 1, engine.bundle, engine.state, engine.snapshot, context, engine.seed)
    values = candidate_features(query, found, names, similarities(query, found))[0, place[0]]
    return dict(zip(names, values.tolist(), strict=True))


def _of_request(name: str) -> Feature:
    from recsys_cli.features.spec import Feature

    return Feature(name, "request", "request", name, "place among the candidates of the request", name)


def _heavy(call: Invocation, engine: RecommendationEngine, run: str | None, case: UserItem, action: str) -> Attribution:
    from recsys_cli.artifacts.checkpoint import load_checkpoint
    from recsys_cli.artifacts.runs import RunStore
    from recsys_cli.ranking.attribution import explain_heavy
    from recsys_cli.ranking.registry import restore_ranker

    opened = RunStore(call.config.paths.artifacts).open(run, verify=False)
    ranker = restore_ranker(load_checkpoint(opened.intact("checkpoints/heavy.pt")))
    return explain_heavy(ranker, case.values, action, case.entities)


def _leading(engine: RecommendationEngine, predictions: dict[str, float]) -> str:
    """The action that adds most to the utility of this case."""
    from recsys_cli.pipeline.utility import weights_of

    weights = weights_of(engine.pipeline.utility, engine.bundle.proposed_weights)
    actions = [a for a in predictions if a not in ("dwell", "relevance")]
    if not actions:
        from recsys_cli.errors import ArtifactError

        raise ArtifactError(f"run {engine.manifest.id} has no heavy ranker", "explain --ranker light")
    return max(actions, key=lambda a: abs(weights.get(a, 0.0)) * predictions[a])


def _render(console, document: dict, top: int) -> None:
    from rich.markup import escape
    from rich.table import Table

    rows, dwell = document["features"], document["unit"] != "log-odds"
    who = f"User {escape(str(document['user']))}, item {escape(str(document['item']))}"
    said = f"{document['prediction']:.1f} s" if dwell else f"{document['prediction']:.4f}"
    title = f"[bold]{who}[/] · {document['ranker']} ranker, {escape(document['action'])}: [bold]{said}[/] · "
    when = f"before {document['time']}" if document["time"] else "over all rows, in their order"
    console.print(title + f"counted {when}", highlight=False)
    table = Table("feature", "group", "says", document["unit"], box=None, header_style="bold", pad_edge=False)
    if not dwell:
        table.add_column("odds ×", justify="right")
    table.columns[2].justify = table.columns[3].justify = "right"

    def add(name: str, group: str, says: str, part: float, style: str | None = None, odds: bool = True) -> None:
        more = [] if dwell else [_times(part) if odds else ""]
        table.add_row(escape(name), group, escape(says), f"{part:+.4f}", *more, style=style)

    base = "" if dwell else f"{document['base_prediction']:.4f}"
    add("baseline", "", base, document["base"], "dim", odds=False)
    for row in rows[:top]:
        add(row["name"], row["group"], row["reading"], row["contribution"])
    rest = rows[top:]
    if rest:
        add(f"{len(rest)} others", "", "", sum(r["contribution"] for r in rest), "dim")
    add("score", "", said, document["score"], "bold", odds=False)
    console.print(table)
    if document["words"] is not None:
        console.print(document["words"], markup=False, highlight=False)
    curve = "; a calibration curve turns the score into the probability" if document["calibration_curve"] else ""
    console.print(
        f"{document['method']}; baseline: {document['baseline']}; the sum misses the score by "
        f"{document['completeness_error']:+.1e}{curve}", style="dim", highlight=False,
    )


def _times(part: float) -> str:
    import math

    return f"{math.exp(part):.2f}" if abs(part) < 7 else f"{math.exp(max(min(part, 50), -50)):.1e}"


def _time(now: int) -> str:
    import datetime as dt

    return dt.datetime.fromtimestamp(now / 1e6, dt.UTC).isoformat(timespec="seconds")
