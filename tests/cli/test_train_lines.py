"""What `train` says in a line each."""

from recsys_cli.cli.train import _int8_line, _weights_line


def test_the_cost_of_int8_is_unknown_where_no_head_has_both_classes():
    nan = float("nan")
    assert "its cost is unknown" in _int8_line({"click": {"float32": nan, "int8": nan}})
    line = _int8_line({"click": {"float32": 0.8, "int8": 0.79}, "like": {"float32": nan, "int8": nan}})
    assert "falls by 0.0100 on average" in line and "for click (0.8000 to 0.7900)" in line


def test_the_weights_in_use_are_told_and_the_proposed_ones_marked():
    line = _weights_line({"weights": {"click": 0.5, "add_to_cart": 1.452}, "proposed": {"add_to_cart": 1.452}})
    assert line.startswith("utility weighs click 0.5, add_to_cart* 1.452; * by rarity")
    assert _weights_line({"weights": {"click": 0.5}, "proposed": {}}) == "utility weighs click 0.5"
