"""What is in a dataset, told as tables and as a page, and what two of them differ in."""
