"""Lists of a model of RecTools, for `recsys benchmark`: ROWS.csv USERS.txt LENGTH LISTS.json MODEL.

two_stage is its CandidateRankingModel: ALS, EASE and item neighbours propose 60 items each, LightGBM ranks them by
their scores and places, with 30 negatives for each positive.
"""

import warnings

import pandas as pd
from answer import Clock, answer, asked
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender
from rectools.dataset import Dataset
from rectools.models import EASEModel, ImplicitALSWrapperModel, ImplicitItemKNNWrapperModel

warnings.simplefilter("ignore")
CANDIDATES = 60


def als():
    return ImplicitALSWrapperModel(AlternatingLeastSquares(factors=128, regularization=20, alpha=5, random_state=42))


def item_knn():
    return ImplicitItemKNNWrapperModel(CosineRecommender(K=500))


def ease():
    return EASEModel(regularization=200)


def two_stage(ordered: bool):
    from lightgbm import LGBMClassifier
    from rectools.model_selection import LastNSplitter, RandomSplitter
    from rectools.models.ranking import CandidateGenerator, CandidateRankingModel, PerUserNegativeSampler, Reranker

    made = [
        CandidateGenerator(model, CANDIDATES, keep_ranks=True, keep_scores=True, ranks_fillna_value=CANDIDATES + 1)
        for model in (als(), ease(), item_knn())
    ]
    splitter = LastNSplitter(10, n_splits=1) if ordered else RandomSplitter(0.2, n_splits=1, random_state=42)
    return CandidateRankingModel(
        candidate_generators=made, splitter=splitter, sampler=PerUserNegativeSampler(30, random_state=42),
        reranker=Reranker(LGBMClassifier(num_leaves=15, n_estimators=150, random_state=42, verbose=-1)),
    )


data, wanted, length, out, (kind,) = asked()
ordered = "time" in data
when = pd.to_datetime(data["time"], unit="s") if ordered else pd.Timestamp("2020-01-01")
rows = pd.DataFrame({"user_id": data["user"], "item_id": data["item"], "weight": 1.0, "datetime": when})
model = two_stage(ordered) if kind == "two_stage" else {"als": als, "item_knn": item_knn, "ease": ease}[kind]()
clock = Clock()
dataset = Dataset.construct(rows)
model.fit(dataset)
fitted = clock.lap()
known = set(rows["user_id"])
found = model.recommend([u for u in wanted if u in known], dataset=dataset, k=length, filter_viewed=True)
ranked = clock.lap()
lists = found.sort_values("rank").groupby("user_id")["item_id"].apply(list).to_dict()
answer(out, lists, fitted, ranked)
