"""Lists of a model of LensKit, for `recsys benchmark`: ROWS.csv USERS.txt LENGTH LISTS.json MODEL."""

import warnings

from answer import Clock, answer, asked

warnings.simplefilter("ignore")

from lenskit import topn_pipeline  # noqa: E402
from lenskit.als import ImplicitMFScorer  # noqa: E402
from lenskit.basic import PopScorer  # noqa: E402
from lenskit.batch import recommend  # noqa: E402
from lenskit.data import from_interactions_df  # noqa: E402
from lenskit.knn import ItemKNNScorer, UserKNNScorer  # noqa: E402

if __name__ == "__main__":  # it may start processes of its own, which read this file again
    data, wanted, length, out, (kind,) = asked()
    model = {
        "item_knn": lambda: ItemKNNScorer(max_nbrs=100, feedback="implicit"),
        "user_knn": lambda: UserKNNScorer(max_nbrs=100, feedback="implicit"),
        "als": lambda: ImplicitMFScorer(embedding_size=64, epochs=15),
        "pop": lambda: PopScorer(),
    }[kind]()
    rows = data[["user", "item"]].drop_duplicates().rename(columns={"user": "user_id", "item": "item_id"})
    clock = Clock()
    pipeline = topn_pipeline(model)
    pipeline.train(from_interactions_df(rows))
    fitted = clock.lap()
    known = set(rows["user_id"])
    found = recommend(pipeline, [user for user in wanted if user in known], n=length, n_jobs=1)
    lists = {key[0]: [str(item) for item in items.ids()] for key, items in found.items()}
    answer(out, lists, fitted, clock.lap())
