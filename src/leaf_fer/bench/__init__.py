"""Experiments: how fast it is, and grids of runs."""
