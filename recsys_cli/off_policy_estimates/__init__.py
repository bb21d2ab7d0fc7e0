"""What another policy would have earned, from the rows of a log: functions of arrays, no files."""
