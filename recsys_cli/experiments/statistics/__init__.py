"""Statistics of experiments, from numpy and `scipy.special` alone: nothing here is slow to import.

Tests hold each formula to tea-tasting, scipy.stats and statsmodels; these would cost the command more time to import
than the analysis of a log takes.
"""
