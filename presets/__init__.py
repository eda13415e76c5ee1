"""Whole configurations for known uses."""
