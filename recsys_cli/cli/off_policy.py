"""`recsys off-policy`: what another policy would have earned, from a log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.errors import UsageError


@command(app, "off-policy")
def off_policy(
    call: Invocation,
    policy: Annotated[
        Path, typer.Argument(metavar="POLICY.yaml", help="The policy, e.g. configs/off-policy/uniform.yaml")
    ],
    log: Annotated[
        Path, typer.Option("--log", help="What another policy showed and earned: CSV, TSV, Parquet, JSON lines")
    ],
    save_policy: Annotated[
        Path | None,
        typer.Option("--save-policy", help="Write the learned policy as Parquet, for exploration and `kind: file`"),
    ] = None,
) -> None:
    """Estimate what a policy would have earned on the log of another, or learn one from it.

    A policy is a run behind any settings, a table of probabilities, another log, or learned; see `recsys docs
    off-policy`.
    """
    from recsys_cli.off_policy.config import read_policy
    from recsys_cli.off_policy.estimate import judge
    from recsys_cli.off_policy.tables import render
    from recsys_cli.shipped import find

    wanted, config = read_policy(find(policy)), call.config
    if save_policy is not None and wanted.policy.kind != "learned":
        raise UsageError("--save-policy is for a learned policy", "set policy: {kind: learned}")
    with call.trace.timed("off-policy", policy=wanted.name):
        document, learned = judge(wanted, log, Path(config.paths.artifacts), config.pipeline, config.seed)
    if save_policy is not None:
        from recsys_cli.files import write_frame

        write_frame(save_policy, learned.write_parquet)
        call.say(f"wrote {save_policy}")
    rows = [
        {k: v for k, v in row.items() if not isinstance(v, dict)} | {"of": of}
        for of in ("impression", "slate")
        for row in document["estimates" if of == "impression" else "slate_estimates"]
    ]
    call.emit(document, lambda console: render(console, document), rows)
