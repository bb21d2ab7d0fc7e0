"""Settings chosen by a study: a search space, trials that are trained and measured on the validation window, a winner
that is confirmed on people who had no part in the choice."""
