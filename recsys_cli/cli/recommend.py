"""`recsys recommend`: slates for one user, some users or everybody."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.errors import DataError, UsageError


@command(app, "recommend")
def recommend(
    call: Invocation,
    user: Annotated[list[str] | None, typer.Option("--user", "-u", help="User id (repeatable)")] = None,
    users_file: Annotated[Path | None, typer.Option("--users-file", help="File with one user id a line")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Every user of the dataset")] = False,
    history: Annotated[
        str | None,
        typer.Option("--history", metavar="ID,ID,…", help="Items of somebody who is not in the data, oldest first"),
    ] = None,
    number: Annotated[
        int | None, typer.Option("-n", min=1, help="Items a slate  [default: pipeline.slate_size]", show_default=False)
    ] = None,
    context: Annotated[
        list[str] | None, typer.Option("--context", metavar="KEY=VALUE", help="surface, device, time, … (repeatable)")
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="Run id  [default: the one in use]", show_default=False)
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Predictions, similarities, safety and the reason of each item")
    ] = False,
    fallback: Annotated[
        bool, typer.Option("--fallback/--no-fallback", help="Answer unknown users with trending and popular items")
    ] = True,
    shards: Annotated[int, typer.Option("--shards", min=1, help="Files to write with --all and --output")] = 1,
) -> None:
    """Recommend items: rank, item, author, score, sources, predictions, reason; then the mix and the funnel."""
    if sum((bool(user), users_file is not None, everybody, history is not None)) != 1:
        raise UsageError(
            "name users with --user, --users-file or --all, or items with --history",
            "exactly one of them, e.g. --user 1",
        )
    config = call.config
    from recsys_cli.engine import RecommendationEngine

    engine = RecommendationEngine.load(
        config.paths.artifacts, run, config.pipeline, threads=config.threads, trace=call.trace
    )
    values = parse_context(context or [])
    if history is not None:
        _recommend_from(call, engine, history, number, values, explain)
        return
    if everybody and call.output is not None and call.format == "parquet":
        from recsys_cli.pipeline.export import write_all

        written = write_all(engine, call.output, shards=shards, n=number, context=values, progress=call.progress)
        call.say(f"wrote {written:,} recommendations to {call.output}")
        return
    if everybody:
        positions = range(len(engine.bundle.user_ids))
        ids = engine.bundle.user_ids.external(list(positions))
    else:
        ids = list(user) if user else _read_ids(users_file)
    ids = _owned(engine, ids)
    answers = list(engine.recommend_many(ids, number, values, fallback=fallback))
    for answer in answers:
        if answer.fallback:
            helpers = " and ".join(engine.pipeline.sourcing.fallback)
            call.say(f"user {answer.user_id}: {answer.fallback}; filled from {helpers}")
    document = [a.to_dict() for a in answers]
    single = len(document) == 1 and not everybody and users_file is None
    call.emit(
        document[0] if single else document,
        lambda console: _render(console, answers, explain),
        [row for a in document for row in _rows(a)],
    )


def _recommend_from(call: Invocation, engine, history: str, number: int | None, values: dict, explain: bool) -> None:
    ids = split_history(history, engine.bundle.item_ids)
    if not ids:
        raise UsageError("--history names no item", "give item ids separated by commas, e.g. --history 12,48,7")
    answer = engine.recommend_from(ids, number, values)
    unknown = [note for note in answer.notes if note not in engine.bundle.notes]
    for note in unknown:
        call.say(f"{note} and ignored")
    if answer.fallback:
        call.say(f"{answer.fallback}; filled from {' and '.join(engine.pipeline.sourcing.fallback)}")
    document = answer.to_dict()
    call.emit(document, lambda console: _render(console, [answer], explain), _rows(document))


def split_history(text: str, known) -> list[str]:
    """The ids of `--history`; an id of the data may hold commas itself, the longest that is known is taken.

    known: the Vocabulary of items.
    """
    parts, ids = text.split(","), []
    while parts:
        joined = [",".join(parts[:n]).strip() for n in range(len(parts), 0, -1)]
        held = known.positions(joined) >= 0
        place = int(held.argmax()) if held.any() else len(joined) - 1
        ids.append(joined[place])
        parts = parts[len(parts) - place :]
    return [i for i in ids if i]


def _owned(engine, ids: list) -> list:
    """Ids as the owner writes them: the shell gives text where the dataset may have integers."""
    positions = engine.bundle.user_ids.positions(ids)
    known = engine.bundle.user_ids.external(positions)
    return [k if k is not None else given for k, given in zip(known, ids, strict=True)]


def _read_ids(path: Path) -> list[str]:
    from recsys_cli.data.importer.text import read_lines

    ids = read_lines(path, "one user id a line")
    if not ids:
        raise DataError(f"{path} names no user", "write one user id a line")
    return ids


def parse_context(pairs: list[str]) -> dict[str, str]:
    """KEY=VALUE pairs of the command line; raises UsageError for anything else."""
    out = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--context {pair!r} is not of the form key=value", "for example --context surface=home")
        out[key] = value
    return out


def _rows(answer: dict) -> list[dict]:
    return [
        {
            "user_id": answer["user_id"],
            "rank": item["rank"],
            "item_id": item["item_id"],
            "author_id": item["author_id"],
            "score": item["score"],
            "sources": ";".join(item["sources"]),
            "explored": item["explored"],
            "reason": item["reason"],
            "fallback": answer["fallback"],
            **{f"p_{k}" if k != "dwell_seconds" else k: v for k, v in item["predictions"].items()},
            **{f"sim_{k}": v for k, v in item["similarities"].items()},
            **{f"safety_{k}": v for k, v in item["safety"].items()},
            "interstitial": ";".join(item["interstitial"]),
        }
        for item in answer["items"]
    ]


def _render(console, answers: list, explain: bool) -> None:
    from recsys_cli.cli.slate_tables import render_slate

    for answer in answers:
        render_slate(console, answer, explain=explain)
