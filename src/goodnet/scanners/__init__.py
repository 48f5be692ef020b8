"""Scanners: classifier + clean images -> is it backdoored, and how."""
