"""`recsys generate-data`: write the synthetic social network as a dataset."""

from __future__ import annotations

from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command

UsersOption = Annotated[int | None, typer.Option("--users", help="Number of users")]
ItemsOption = Annotated[int | None, typer.Option("--items", help="Number of items")]
DaysOption = Annotated[int | None, typer.Option("--days", help="Length of the log in days")]
ShardsOption = Annotated[int | None, typer.Option("--shards", help="Files to split the impressions into")]
TruthOption = Annotated[
    bool | None, typer.Option("--truth/--no-truth", help="Write truth/, which ab-test needs", show_default=False)
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace an imported dataset, and write beside files of no dataset")
]


@command(app, "generate-data")
def generate_data(
    call: Invocation,
    users: UsersOption = None,
    items: ItemsOption = None,
    days: DaysOption = None,
    shards: ShardsOption = None,
    truth: TruthOption = None,
    force: ForceOption = False,
) -> None:
    """Generate the synthetic world (settings under `world:`) into the dataset folder."""
    import time
    from pathlib import Path

    from recsys_cli.config import validate
    from recsys_cli.world.config import WorldConfig

    started = time.perf_counter()
    given = {"users": users, "items": items, "days": days, "shards": shards, "truth": truth}
    given = {k: v for k, v in given.items() if v is not None}
    config = call.config.world
    if given:
        config = validate(WorldConfig, {**config.model_dump(mode="json"), **given})
    path = Path(call.config.paths.data)
    if not force:
        check_destination(path)
    from recsys_cli.world.generate import generate

    seed, threads = call.config.seed, call.config.threads
    with call.trace.timed("generate-data", users=config.users, items=config.items, seed=seed) as event:
        manifest, interactions = generate(
            config, seed, path, threads=threads, progress=call.progress, keep=force
        )
        event.fields.update(impressions=manifest.tables["impressions"].rows, digest=manifest.digest)
    seconds = time.perf_counter() - started
    document = summary(path, manifest, interactions, seconds)

    def render(console) -> None:
        from rich.table import Table

        table = Table(box=None, show_header=False)
        table.add_column(style="bold")
        table.add_column(justify="right")
        for key in ("users", "items", "impressions", "interactions", "follows", "blocks"):
            table.add_row(key, f"{document[key]:,}")
        table.add_row("days", f"{config.days:,} from {config.start}")
        table.add_row("size", f"{document['bytes'] / 1e6:,.1f} MB")
        table.add_row("time", f"{seconds:.2f} s")
        table.add_row("digest", manifest.digest)
        console.print(table)
        rates = Table("action", "count", "rate", box=None, header_style="bold")
        rates.columns[1].justify = rates.columns[2].justify = "right"
        for name, action in document["actions"].items():
            rates.add_row(name, f"{action['count']:,}", f"{action['rate']:.2%}")
        console.print()
        console.print(rates)
        console.print(f"\nwrote {path}; next: recsys train", highlight=False, soft_wrap=True)

    rows = [{"action": name, **values} for name, values in document["actions"].items()]
    call.emit(document, render, rows)


def check_destination(path) -> None:
    """Refuse to replace what this command did not make; raises UsageError."""
    import orjson

    from recsys_cli.data.writer import dataset_files
    from recsys_cli.errors import UsageError
    from recsys_cli.files import PLACEHOLDERS, foreign_files

    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file, not a dataset folder", "name another place with --data-dir")
    first = next((name for name in foreign_files(path, dataset_files) if name not in PLACEHOLDERS), None)
    if first is not None:
        raise UsageError(
            f"{path} holds {first}, which generate-data did not write",
            "name another place with --data-dir, or write beside it with --force",
        )
    made = dataset_files(path) and "generator" in orjson.loads((path / "dataset.json").read_bytes())["origin"]
    if not made and path.exists() and any(p.name not in PLACEHOLDERS for p in path.iterdir()):
        raise UsageError(
            f"{path} holds a dataset that generate-data did not write",
            "name another place with --data-dir, or replace it with --force",
        )


def summary(path, manifest, interactions: int, seconds: float) -> dict:
    """What was written, as the JSON of this command."""
    rows = {name: info.rows for name, info in manifest.tables.items()}
    impressions = rows["impressions"]
    return {
        "data": str(path), "users": rows["users"], "items": rows["items"], "impressions": impressions,
        "interactions": interactions, "follows": rows["follows"], "blocks": rows["blocks"],
        "actions": {
            name: {"count": a.count, "rate": a.count / impressions, "polarity": a.polarity}
            for name, a in manifest.actions.items()
        },
        "time_span": manifest.time_span, "bytes": sum(f.stat().st_size for f in path.rglob("*") if f.is_file()),
        "seconds": round(seconds, 3), "impressions_per_second": round(impressions / seconds),
        "seed": manifest.origin["seed"], "digest": manifest.digest,
    }
