"""Triggers: how they are drawn, recovered, and hunted while a network changes."""
