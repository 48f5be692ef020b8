"""A GoodNet behind HTTP. Needs the extra `goodnet[serve]`."""
