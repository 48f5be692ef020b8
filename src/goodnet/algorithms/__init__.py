"""Shared mathematics, each file named for what it computes."""
