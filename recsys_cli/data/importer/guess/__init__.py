"""A mapping guessed from files: `look` how they are written, `profile` what their columns hold, `roles` what they are
for, `tables` which file is which table, `plan` the whole, `write` the commented YAML."""
