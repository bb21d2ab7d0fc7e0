"""How far a number of a setting may reach, by its name: far beyond what anybody trains with, short of what can only
fill the memory, never end, or turn into NaN."""

from __future__ import annotations

_LARGEST: dict[float, str] = {
    65_536: "codes_per_level dim hidden head embedding_dim id_dim history_dim text_dims before_taste_dims taste_dim",
    10_000_000: "neighbours per_author per_friend per_community pool circle active sample candidates communities walks "
    "max_categories max_words uniform_negatives hard_negatives hard_depth beams",
    100_000: "history past future gaps basket_items session_items query_items last_impressions k "
    "epochs epochs_again patience max_iterations fold_in_steps rounds",
    16_777_216: "batch_size",
    268_435_456: "id_buckets",
    131_072: "leaves",  # as many as LightGBM takes
    10_000: "steps group_size",
    1_000: "members seeds folds cuts moments max_topics history_heads weight_decay",
    256: "layers history_layers",
    64: "widening id_hashes code_levels",
    10: "learning_rate",
    1e6: "temperature task_weights weights listwise dwell_weight gradnorm_alpha",
    100: "alpha beta focal_gamma sharpening low_pass intercepts dwell_weights dwell_intercept dwell_click dwell_length "
    "popularity_exponent user_exponent item_exponent query_exponent answer_exponent baseline_exponent norm_exponent "
    "low_pass_query_exponent low_pass_answer_exponent degree_exponent l2_exponent",
}
LARGEST = {name: bound for bound, names in _LARGEST.items() for name in names.split()}
"""Name → largest number, either way."""
SMALLEST = {"temperature": 1e-6, "half_life_days": 1e-6, "tie_half_life_days": 1e-6, "trend_half_life_hours": 1e-6}
"""Name → smallest number above 0."""
LONGEST = 1_000
"""Most numbers in a list of them."""
MAX_WHOLE = 2**31 - 1
"""Largest whole number of a setting that states no bound of its own, either way: what 32 bits hold."""
MAX_NUMBER = 1e12
"""Largest number of a setting that states no bound of its own, either way: its square still is a float32."""
MIN_NUMBER = 1e-30
"""Smallest number other than 0, either way: its inverse still is a float32."""


def out_of_bounds(name: str, value: float) -> str | None:
    """Why a finite number is no value of a setting of this name; None where it may be one."""
    largest = LARGEST.get(name, MAX_WHOLE if isinstance(value, int) else MAX_NUMBER)
    if abs(value) > largest:
        return f"is out of bounds; it reaches {largest:,}" if largest < MAX_NUMBER else f"is beyond {largest:g}"
    smallest = SMALLEST.get(name, MIN_NUMBER)
    if 0 < abs(value) < smallest:
        return f"is out of bounds; above 0 it begins at {smallest:g}"
    return None
