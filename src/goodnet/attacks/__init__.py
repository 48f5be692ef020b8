"""Attacks: clean data -> poisoned data and the truth about it."""
