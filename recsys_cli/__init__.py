"""`recsys`: the whole life of a For-You recommender, from data to served slates.

>>> from recsys_cli import RecommendationEngine
>>> engine = RecommendationEngine.load("artifacts")
>>> engine.recommend(user_id=1, num_results=10)

>>> from recsys_cli import evaluate
>>> evaluate("slates.parquet", "truth.parquet", metrics=["ndcg@10"])["ndcg@10"]
"""

__version__ = "0.1.0"
__all__ = ["RecommendationEngine", "__version__", "evaluate"]


def __getattr__(name: str):
    # Imported on first use: `recsys --help` must not pay for numpy and onnxruntime.
    if name == "RecommendationEngine":
        from recsys_cli.engine import RecommendationEngine

        return RecommendationEngine
    if name == "evaluate":
        from recsys_cli.evaluation.slates.evaluate import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
