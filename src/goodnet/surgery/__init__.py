"""Changes to networks: channels, bounds, weights that stay zero, and a brake for training on few images."""
