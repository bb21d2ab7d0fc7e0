"""Lists of a model of RecBole, for `recsys benchmark`: ROWS.csv USERS.txt LENGTH LISTS.json MODEL EPOCHS.

MODEL is RecBole's name (EASE, ItemKNN, BPR, LightGCN, …), trained on every row with its own default settings.
"""

import sys
import tempfile
import warnings
from logging import WARNING, getLogger
from pathlib import Path

import numpy as np
import torch
from answer import Clock, answer, asked

warnings.simplefilter("ignore")
data, wanted, length, out, (kind, epochs) = asked()
sys.argv = sys.argv[:1]  # RecBole reads the command line too

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.data.interaction import Interaction  # noqa: E402
from recbole.utils import get_model, get_trainer, init_seed  # noqa: E402

with tempfile.TemporaryDirectory() as folder:
    place = Path(folder) / "rows"
    place.mkdir()
    named = data[["user", "item"]].rename(columns={"user": "user_id:token", "item": "item_id:token"})
    named.to_csv(place / "rows.inter", sep="\t", index=False)
    config = Config(model=kind, dataset="rows", config_dict={
        "data_path": folder, "load_col": {"inter": ["user_id", "item_id"]}, "epochs": int(epochs), "use_gpu": False,
        "checkpoint_dir": folder, "show_progress": False, "state": "WARNING", "seed": 42, "reproducibility": True,
        "eval_args": {"split": {"RS": [1.0, 0.0, 0.0]}, "order": "RO", "group_by": "user", "mode": "full"},
    })  # fmt: skip
    getLogger().setLevel(WARNING)
    init_seed(config["seed"], config["reproducibility"])
    clock = Clock()
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    model = get_model(config["model"])(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, valid_data=None, saved=False, show_progress=False)
    fitted = clock.lap()
    model.eval()
    tokens = dataset.field2id_token["item_id"]
    seen = dataset.inter_matrix(form="csr")
    known = dataset.field2token_id["user_id"]
    users = [user for user in wanted if user in known]
    lists = {}
    with torch.no_grad():
        for start in range(0, len(users), 256):
            part = users[start : start + 256]
            ids = torch.tensor([known[user] for user in part])
            scores = model.full_sort_predict(Interaction({"user_id": ids})).view(len(part), -1).numpy().copy()
            scores[:, 0] = -np.inf  # what fills rows up
            scores[seen[ids.numpy()].toarray() > 0] = -np.inf
            for user, row in zip(part, np.argsort(-scores, axis=1)[:, :length], strict=True):
                lists[user] = [str(tokens[item]) for item in row]
    answer(out, lists, fitted, clock.lap())
