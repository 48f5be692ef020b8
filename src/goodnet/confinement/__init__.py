"""Readers of a stranger's bytes run here: in a child process that can reach nothing, and hands back plain data."""
