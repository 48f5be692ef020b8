"""The Neural Cleanse of adversarial-robustness-toolbox with its defaults; `scan.py` runs this in a venv of its own.

    ENV/bin/python benchmarks/art_neural_cleanse.py MODEL.keras IMAGES.npz SECONDS THREADS

Prints one line of JSON: versions, seconds and mask norm of each label that was finished within SECONDS, seconds in all, and,
where all labels were, those that it calls infected. Imports nothing of goodnet.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


class TimeIsUp(Exception):
    """The cap is reached."""


def main(model: str, data: str, seconds: str, threads: str) -> dict[str, Any]:
    import art
    import keras
    import numpy as np
    import tensorflow as tf
    from art.defences.transformer.poisoning import NeuralCleanse
    from art.estimators.classification import KerasClassifier

    tf.config.threading.set_intra_op_parallelism_threads(int(threads))
    tf.config.threading.set_inter_op_parallelism_threads(int(threads))
    content = np.load(data)
    images, labels = content["images"], content["labels"]
    network = keras.models.load_model(model, compile=False)
    network.compile(loss="categorical_crossentropy", optimizer="adam")
    classes = network.output_shape[-1]
    wrapped = KerasClassifier(network, use_logits=False, clip_values=(0, 1))
    cleanse = NeuralCleanse(wrapped)(wrapped)
    start, train = time.perf_counter(), cleanse.train

    def train_until_the_cap(*batch: Any) -> Any:
        if time.perf_counter() - start > float(seconds):
            raise TimeIsUp
        return train(*batch)

    cleanse.train = train_until_the_cap
    done: list[dict[str, float]] = []
    with contextlib.suppress(TimeIsUp):
        for label in range(classes):
            began = time.perf_counter()
            mask, _ = cleanse.generate_backdoor(images, np.eye(classes)[labels], np.eye(classes)[label])
            done.append({"seconds": time.perf_counter() - began, "norm": float(np.abs(mask).sum() / mask.shape[-1])})
    return {
        "versions": {"art": art.__version__, "tensorflow": tf.__version__, "keras": keras.__version__},
        "classes": classes,
        "labels": done,
        "seconds": time.perf_counter() - start,
        "infected": find_infected([item["norm"] for item in done]) if len(done) == classes else None,
    }


def find_infected(norms: list[float]) -> list[int]:
    """Return the labels that the toolbox's own rule flags: small norms with an anomaly index above 2."""
    import numpy as np

    median = np.median(norms)
    deviation = 1.4826 * np.median(np.abs(np.array(norms) - median))
    return [label for label, norm in enumerate(norms) if norm <= median and (median - norm) / deviation > 2]


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # The toolbox prints every step.
        result = main(*sys.argv[1:])
    print(json.dumps(result))
