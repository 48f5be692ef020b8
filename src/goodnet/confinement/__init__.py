"""Readers of untrusted bytes run here: in a sandboxed child process, which hands back plain data."""
