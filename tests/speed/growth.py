"""How time and memory grow with the world: generate, train, recommend and evaluate at several sizes, and the exponents.

    python tests/speed/growth.py [--sizes 1000 10000 100000] [--impressions 20] [--steps generate-data train]
                                 [--rows growth.json] [--picture growth.svg]

A world of n users and n items with so many impressions a user, without truth. Prints seconds of the processor (which
other work on the machine changes less than seconds on the clock), peak memory, and the slope of the logarithm of each
over that of n by least squares: 1 is linear, and above 1.2 is marked, since n log n grows by about 1.1 here. --rows
keeps what was measured, and adds it to what an earlier call kept there (--sizes with nothing behind it measures
nothing more); --picture draws all of it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measured import recsys

STEPS = {
    "generate-data": ("generate-data",), "train": ("train",), "recommend": ("recommend", "--user", "1"),
    "evaluate": ("evaluate",),
}
STEEP = 1.2
FIGURES = {"processor": "seconds of the processor", "gib": "peak memory, GiB"}


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of ln(values) over ln(sizes) by least squares; NaN of a single size."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0]) if len(set(sizes)) > 1 else float("nan")


def slope(rows: list[dict], step: str, figure: str) -> float:
    mine = [row for row in rows if row["step"] == step]
    return exponent([row["n"] for row in mine], [row[figure] for row in mine])


def measure(size: int, impressions: int, steps: Sequence[str]) -> list[dict]:
    """Rows of the steps on one world, printed as they come."""
    settings = (
        f"world.users={size}", f"world.items={size}", f"world.impressions_per_user={impressions}", "world.truth=false",
    )
    out = []
    with tempfile.TemporaryDirectory() as name:
        for step in steps:
            one = recsys(Path(name), *STEPS[step], settings=settings if step == "generate-data" else ())
            out.append({"n": size, "step": step, "processor": one.processor, "gib": one.gib})
            print(
                f"{size:>9,} {step:<14} {one.processor:8.1f} s of the processor, {one.seconds:8.1f} s, "
                f"{one.gib:6.2f} GiB", flush=True,
            )
    return out


def picture(rows: list[dict]) -> str:
    """SVG of both figures over n, on axes of logarithms, in the colours of a light page; the exponents in the names."""
    import vl_convert

    from recsys_cli import charts

    colours = dict(re.findall(r"--(s\d):(#\w+)", charts.STYLE.partition("@media")[0]))
    colours |= {"soft": "#5b6472", "line": "#d9dde3", "ink": "#1c2430"}
    panels = []
    for figure, label in FIGURES.items():
        names = {step: f"{step}, n^{slope(rows, step, figure):.2f}" for step in STEPS}
        drawn = charts.line_chart(
            [{"series": names[row["step"]], "x": row["n"], "y": row[figure]} for row in rows],
            title=label, x_label="users, and items", log_x=True, log_y=True, form=".2f",
        )
        spec = json.loads(re.search(r'<script type="application/json">(.*)</script>', drawn)[1])
        config = {key: spec.pop(key) for key in ("$schema", "config", "autosize")}
        for layer in spec["layer"]:  # nothing moves in a picture
            layer.pop("params", None)
            layer["encoding"].pop("opacity", None)
        # names stand in the legend of each panel: lines end too near to one another
        spec["layer"] = [layer for layer in spec["layer"] if layer["mark"]["type"] != "text"]
        panels.append(spec | {"width": 300, "title": {"text": label, "anchor": "start", "fontWeight": "normal"}})
    whole = {"$schema": config["$schema"], "config": config["config"] | {"background": "white"}, "hconcat": panels,
             "resolve": {"scale": {"color": "independent"}}}
    text = re.sub(r"var\(--(\w+)\)", lambda found: colours[found[1]], json.dumps(whole))
    return vl_convert.vegalite_to_svg(text)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--impressions", type=int, default=20)
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args(argv)
    rows = json.loads(asked.rows.read_text()) if asked.rows is not None and asked.rows.is_file() else []
    for size in asked.sizes:
        rows += measure(size, asked.impressions, asked.steps)
        if asked.rows is not None:
            asked.rows.write_text(json.dumps(rows))
    for step in dict.fromkeys(row["step"] for row in rows):
        time, memory = (slope(rows, step, figure) for figure in FIGURES)
        print(f"{step:<14} time n^{time:.2f}, memory n^{memory:.2f}{'   STEEP' if time > STEEP else ''}")
    if asked.picture is not None:
        asked.picture.write_text(picture(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
