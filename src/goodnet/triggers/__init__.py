"""Triggers: how they are drawn, reverse-engineered, and updated while a network changes."""
