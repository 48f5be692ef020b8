"""The only place that knows the truth."""
