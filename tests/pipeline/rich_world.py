"""The planted world with every column that a stage of `pipeline.stages` may read."""

from dataclasses import replace

import numpy as np

from recsys_cli.data.catalogue import Columns
from recsys_cli.data.ragged import Ragged
from recsys_cli.pipeline.exploration.creative_texts import CreativeTexts
from recsys_cli.pipeline.filtering.user_lists import hashed
from recsys_cli.testing.planted_bundle import planted_bundle
from recsys_cli.testing.planted_world import NOW

LANGUAGES = ["de", "en", "fr"]
DAY = 86_400_000_000


def lists(rows: list[list[str]]) -> Ragged:
    """Hashes of the words of each row, as the catalogue keeps them."""
    places = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return Ragged.group(places, hashed([word for row in rows for word in row]), len(rows)).sorted_rows()


def rich_bundle(seed: int = 0):
    """120 users, 400 items; half of the columns unknown for a few."""
    bundle = planted_bundle()
    rng, catalogue = np.random.default_rng(seed), bundle.catalogue
    n, users = catalogue.n_items, catalogue.n_users
    language = rng.integers(-1, 3, n).astype(np.int32)
    numbers = {
        "stock": rng.choice([np.nan, 0, 1, 5], n).astype(np.float32),
        "promotion": rng.choice([0, 1], n).astype(np.float32),
        "subscribers_only": (rng.random(n) < 0.2).astype(np.float32),
        "conversation_id": rng.integers(0, 60, n).astype(np.float32),
        "sentiment": rng.uniform(-1, 1, n).astype(np.float32),
        "media_hash": rng.integers(0, 200, n).astype(np.float32),
    }
    catalogue = replace(
        catalogue,
        item_codes={**catalogue.item_codes, "language": language},
        item_numbers={**catalogue.item_numbers, **numbers},
        item_columns=Columns(times={"expires_at": np.where(rng.random(n) < 0.3, NOW - DAY, NOW + DAY)}),
        user_numbers={**catalogue.user_numbers, "adventure": rng.uniform(-1, 1, users).astype(np.float32)},
        user_columns=Columns(lists={
            "languages": lists([LANGUAGES[: 1 + u % 2] if u % 5 else [] for u in range(users)]),
            "muted_keywords": lists([["spoiler"] if u % 3 else [] for u in range(users)]),
            "subscriptions": lists([[str(u + 1)] for u in range(users)]),
            "see_less": lists([["t0"] if u % 2 else [str(u % 7)] for u in range(users)]),
        }),
        names={
            **catalogue.names, "item.language": LANGUAGES, "item.media_type": ["text", "photo", "video"],
            "user.country": ["at", "be", "ch", "de", "es"], "surface": ["home", "search"],
        },
    )
    texts = CreativeTexts.of([[f"{i}.{c}" for c in range(i % 4)] for i in range(n)], ("creatives",))
    return replace(bundle, catalogue=catalogue, state=replace(bundle.state, catalogue=catalogue), creatives=texts)
