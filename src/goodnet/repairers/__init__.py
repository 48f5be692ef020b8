"""Repairers: classifier + clean images -> repaired classifier."""
