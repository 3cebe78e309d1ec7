"""Readings of one model; only here are dice thrown."""
