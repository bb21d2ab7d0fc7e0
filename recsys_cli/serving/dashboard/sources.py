"""What each source brings, and what each stage leaves and takes."""

from __future__ import annotations

from recsys_cli.report import interval_chart
from recsys_cli.serving.dashboard.frame import Page
from recsys_cli.serving.dashboard.funnel import mean_funnel
from recsys_cli.serving.dashboard.markup import chart, section, table
from recsys_cli.serving.dashboard.requests import WORKING, drawn
from recsys_cli.serving.dashboard.visit import Visit
from recsys_cli.serving.dashboard.words import COUNTED, counted, read_so_far, wilson

SAMPLE = 16
"""Users of the data who were active last, for whom the stages are run."""


async def page(visit: Visit) -> Page:
    """Sources by what came of their items, and the stages of the pipeline in their order."""
    live, tally = visit.service.live, visit.desk.tally
    by_source = tally.by_source()
    served = {name for name, _ in by_source}
    rows = [{"source": name} | counted(counts) for name, counts in by_source]
    rows += [{"source": name, "served": 0, "shown": 0, "engaged": 0, "rate": "–", "interval": "–", "negative": 0}
             for name in live.trained.bundle.retrievers if name not in served]
    shown = [(name, counts) for name, counts in by_source if counts.shown]
    picture = ""
    if shown:
        bounds = [wilson(counts.engaged, counts.shown) for _, counts in shown]
        sides = ([c.engaged / c.shown for _, c in shown], [low for low, _ in bounds], [high for _, high in bounds])
        picture = interval_chart([name for name, _ in shown], {"click-through": sides},
                                 title="Click-through with its 95 % interval")
    users = live.lately_active(SAMPLE)
    records = await visit.desk.worked_out(("stages", live.run), lambda: mean_funnel(live.trained, users), 60.0)
    stages = WORKING if records is None else drawn(records)
    body = [
        section("Sources", table({"source": "source"} | COUNTED, rows, "what each source brings", "no source"),
                chart(picture), note=read_so_far(tally, visit.desk.behind)
                + " An item that several sources proposed counts for each."),
        section("Stages", stages, note=f"Run for the {len(users)} users of the data who were active last; milliseconds "
                "are of all of them together."),
    ]
    return Page("Sources and stages", body, "sources")
