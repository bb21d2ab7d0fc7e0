"""Lists of a model of implicit, for `recsys benchmark`: ROWS.csv USERS.txt LENGTH LISTS.json als|bpr|cosine|bm25."""

import warnings

import numpy as np
import scipy.sparse as sp
from answer import Clock, answer, asked
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender

warnings.simplefilter("ignore")
data, wanted, length, out, (kind,) = asked()
users, items = data["user"].astype("category"), data["item"].astype("category")
cells = (np.ones(len(data), np.float32), (users.cat.codes, items.cat.codes))
matrix = sp.csr_matrix(cells, (len(users.cat.categories), len(items.cat.categories)))
matrix.data[:] = 1
model = {
    "als": lambda: AlternatingLeastSquares(factors=128, regularization=20, alpha=5, iterations=15, random_state=42),
    "bpr": lambda: BayesianPersonalizedRanking(factors=128, iterations=100, random_state=42),
    "cosine": lambda: CosineRecommender(K=500),
    "bm25": lambda: BM25Recommender(K=500),
}[kind]()
clock = Clock()
model.fit(matrix, show_progress=False)
fitted = clock.lap()
places = users.cat.categories.get_indexer(wanted)
known = places >= 0
found, _ = model.recommend(places[known], matrix[places[known]], N=min(length, matrix.shape[1]),
                           filter_already_liked_items=True)
ranked = clock.lap()
names = items.cat.categories.to_numpy()
lists = {user: names[row[row >= 0]].tolist() for user, row in zip(np.array(wanted)[known], found, strict=True)}
answer(out, lists, fitted, ranked)
