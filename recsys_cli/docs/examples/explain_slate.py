"""Why a slate looks as it does: where each item came from, what is expected of it, and what the run says in words.

    python explain_slate.py artifacts 1
"""

from __future__ import annotations

import sys

from recsys_cli import RecommendationEngine


def main(artifacts: str, user: str) -> None:
    """A line or two an item, then what each stage took away."""
    engine = RecommendationEngine.load(artifacts)
    # the shell gives text; the run knows ids as the dataset has them
    position = engine.bundle.user_ids.positions([user])[0]
    known = engine.bundle.user_ids.external([position])[0]
    answer = engine.recommend(user if known is None else known, num_results=5)
    for item in answer.items:
        print(f"{item.rank}. {item.item_id}: {item.reason} (score {item.score:.3f})")
        print(f"   proposed by {', '.join(item.sources)}")
        actions = {name: p for name, p in item.predictions.items() if name != "dwell_seconds"}
        likeliest = sorted(actions.items(), key=lambda pair: -pair[1])[:3]
        print("   expected: " + (", ".join(f"{name} {p:.1%}" for name, p in likeliest) or "no heavy ranker here"))
    print("what the stages took away:")
    for stage in answer.funnel:
        if stage["out"] != stage["in"]:
            print(f"   {stage['stage']:<12} {stage['in']:>7,.0f} → {stage['out']:,.0f}")
    if answer.fallback:
        print(f"filled with trending and popular items: {answer.fallback}")


if __name__ == "__main__":
    main(*sys.argv[1:])
