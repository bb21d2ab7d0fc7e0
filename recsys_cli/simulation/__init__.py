"""`recsys simulate`: many days of the loop between what is shown, what people do, and what is learned from it."""
