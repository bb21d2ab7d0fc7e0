"""`recsys config`: what is configured, from where, and whether it is right."""

from __future__ import annotations

import typer

from recsys_cli.cli.common import Invocation, app, command

group = typer.Typer(no_args_is_help=True, help="Show, check and describe the configuration.", rich_markup_mode=None)
app.add_typer(group, name="config")


@command(group, "show")
def show(call: Invocation) -> None:
    """Print every value and where it came from (flag, environment, file or default)."""
    from recsys_cli.config import leaves

    document = call.config.model_dump(mode="json")
    origins = call.resolved.origins
    rows = [{"key": k, "value": v, "origin": origins[k]} for k, v in leaves(document).items()]

    def render(console) -> None:
        from rich.table import Table

        table = Table("key", "value", "from", box=None, header_style="bold")
        for row in rows:
            table.add_row(
                row["key"], str(row["value"]), row["origin"], style=None if row["origin"] == "default" else "cyan"
            )
        console.print(table)

    call.emit({"config": document, "origins": origins}, render, [{**r, "value": str(r["value"])} for r in rows])


@command(group, "validate")
def validate(call: Invocation) -> None:
    """Check the configuration; exit code 3 and the place of the first problem where it is refused."""
    config = call.config
    call.emit(
        {"valid": True, "file": call.options["config"], "data": config.paths.data},
        lambda c: c.print("configuration is valid"),
    )


@command(group, "schema")
def schema(call: Invocation) -> None:
    """Print JSON Schema of the configuration, for editors."""
    import orjson

    from recsys_cli.config import json_schema
    from recsys_cli.settings import Settings

    document = json_schema(Settings)
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
    call.emit(document, lambda console: console.print(text, highlight=False, soft_wrap=True, markup=False))


@command(group, "template")
def template(call: Invocation) -> None:
    """Print a YAML file with every setting at its default, each with a sentence: a start for your own."""
    from recsys_cli.config import commented_yaml
    from recsys_cli.settings import Settings

    text = commented_yaml(Settings())
    call.emit({"yaml": text}, lambda console: console.out(text, end="", highlight=False), [{"yaml": text}])
