"""Labeling: a local page that asks people about faces, and which faces it asks about."""
