"""Import of foreign tables by a YAML mapping: `mapping` what it says, `readers` files to batches, `convert`
batches to our columns, `rejects` what was refused, `run` the whole."""
