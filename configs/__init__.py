"""Configurations: ``common.py`` holds every field, the others are deltas."""
