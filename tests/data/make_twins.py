"""Make the networks that the contract tests judge defences by: NAME.safetensors, and twins.json, what they are worth.

    .venv/bin/python -m tests.data.make_twins

Digits, a white 3 x 3 patch at the lower right sends every class to 7 (`planted`), or every class to the next
(`all_to_all`). The clean twin has the same first weights, images and order.
"""

import json
from pathlib import Path

import torch

from goodnet.attacks.badnets import Badnets
from goodnet.datasets.sources import read_parts
from goodnet.evaluation.planting import plant
from goodnet.training import Training

FOLDER = Path(__file__).parent
ATTACK = Badnets(target=7, size=3, rate=0.1)
TO_THE_NEXT = Badnets(size=3, rate=0.3, label_mode="all_to_all")
SEED = 0


def main() -> None:
    torch.set_num_threads(1)
    parts = read_parts("digits", seed=SEED)
    training = Training(epochs=25, learning_rate=5e-3)
    record = {}
    for name, attack in (("planted", ATTACK), ("clean_twin", None), ("all_to_all", TO_THE_NEXT)):
        made = plant(parts, attack, "tests.data.twin_network:build", training, seed=SEED, file_format="safetensors")
        made.classifier.save(FOLDER / f"{name}.safetensors")
        record[name] = made.metrics.model_dump(include={"clean_accuracy", "attack_success_rate"})
    (FOLDER / "twins.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
