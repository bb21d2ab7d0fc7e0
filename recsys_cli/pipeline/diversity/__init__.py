"""Stages that make a slate varied, each in a file of its own; off unless `pipeline.stages` names them."""
