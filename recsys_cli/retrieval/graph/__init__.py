"""Sources that read who follows whom."""
