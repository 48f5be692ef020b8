"""Specs of a zoo of two pairs and of a bench on it, both of which take seconds."""

ZOO = """
name = "micro"
seed = 1
test_images = 100

[data.digits]
source = "digits:8"

[[group]]
pairs = 2
data = "digits"
architecture = "small_cnn"
attack = [
    { name = "badnets", target = "any", rate = [0.1, 0.15], size = [2, 3] },
    { name = "blended", target = 3, rate = 0.15 },
]
format = ["pt", "safetensors"]
training = { epochs = 3 }
"""

BENCH = """
name = "micro"
seeds = [0, 1, 2]
clean_images = 100

[[repairers]]
method = "pruning"

[[guards]]
method = "disagreement"
repaired_by = "pruning"
"""
