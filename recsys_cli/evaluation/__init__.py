"""How good the recommendations are: metrics, the offline evaluator and its report."""
