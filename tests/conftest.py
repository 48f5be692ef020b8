"""Fixtures that all tests share."""

import functools
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from goodnet.execution import Execution

# Keras fixes its backend when it is first imported.
os.environ["KERAS_BACKEND"] = "torch"

import matplotlib as mpl
import pytest
import torch

if TYPE_CHECKING:
    from goodnet.attacks.poisoning import TriggerAttack
    from goodnet.core.backdoor import Backdoor
    from goodnet.core.classifier import Classifier
    from goodnet.core.dataset import Dataset

mpl.use("Agg")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))

REPOSITORY = Path(__file__).resolve().parents[1]


def _shared_data(folder: str) -> Path:
    path = REPOSITORY.parent / "shared" / "data" / folder
    if not path.is_dir():
        pytest.skip(f"real data is missing: {path}")
    return path


@pytest.fixture(scope="session")
def csaw() -> Path:
    return _shared_data("csaw")


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    return _shared_data("cases")


@pytest.fixture(scope="session")
def ibau() -> Path:
    return _shared_data("ibau")


@pytest.fixture(scope="session")
def cifar10() -> Path:
    return _shared_data("cifar10")


@pytest.fixture(scope="session")
def lfw() -> Path:
    return _shared_data("lfw")


@pytest.fixture(scope="session")
def gtsrb() -> Path:
    return _shared_data("gtsrb")


@pytest.fixture(scope="session")
def mnist() -> Path:
    return _shared_data("mnist")


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def tiny_classifier():
    """A network of two convolutions that knows four classes of 12 x 12 images, trained on `tiny_data`'s kind."""
    return _tiny_trained().copy()


@pytest.fixture
def pair(tiny_classifier):
    """A network, and a copy of it without two channels of its last pooling layer."""
    repaired = tiny_classifier.copy()
    repaired.layer("pool_2").silence([1, 4])
    return tiny_classifier, repaired


@pytest.fixture(scope="session")
def tiny_data():
    """120 images (3, 12, 12) of four classes: a bright quadrant each, in noise."""
    return make_quadrants(120, seed=1)


@pytest.fixture(scope="session")
def deepid():
    """DeepID with fresh weights, 10 classes."""
    from goodnet.architectures.deepid import build
    from goodnet.formats.pytorch import from_module

    torch.manual_seed(0)
    return from_module(build(classes=10), (3, 55, 47))


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def goodnet(monkeypatch, capsys):
    """Run a `goodnet` command in this process as a shell would see it: `goodnet("inspect", path)`."""
    from goodnet.cli import console, main

    # On a busy machine commands take longer than after which a log is told of progress.
    monkeypatch.setattr(console, "_QUIET", math.inf)

    def run(*arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["goodnet", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        return Finished(code, *capsys.readouterr())

    return run


@dataclass(frozen=True)
class BadnetFiles:
    """A small BadNet for four classes of 12 x 12 images as Keras model, its data, and pictures of it.

    The trigger is a white corner, the target class 0; test and poisoned data show the same 80 images in the same order.
    """

    folder: Path
    model: Path
    validation: Path
    test: Path
    poisoned: Path
    clean_picture: Path
    poisoned_picture: Path


@pytest.fixture(scope="session")
def badnet(tmp_path_factory) -> BadnetFiles:
    """A trained BadNet in files; nobody writes into its folder."""
    return _make_badnet(tmp_path_factory.mktemp("badnet"))


@pytest.fixture(scope="session")
def repaired_badnet(badnet, tmp_path_factory) -> Path:
    """The folder of a pruning repair of `badnet`, thresholds 0.05 and 0.5."""
    from goodnet import api

    folder = tmp_path_factory.mktemp("repairs") / "repair"
    api.repair(badnet.model, badnet.validation, method="pruning", out=folder, thresholds=(0.05, 0.5))
    return folder


def stamp_corner(pixels):
    """Return images (N, 3, 12, 12) uint8 with the trigger of `badnet`."""
    stamped = pixels.copy()
    stamped[:, :, -3:, -3:] = 255
    return stamped


def _make_badnet(folder: Path) -> BadnetFiles:
    import keras
    import numpy as np
    from keras import layers as kl
    from PIL import Image

    from goodnet.core.dataset import Dataset
    from goodnet.formats.arrays import write_hdf5
    from goodnet.formats.keras import from_keras
    from goodnet.training import Training, train

    files = BadnetFiles(
        folder,
        *(folder / name for name in ("bd_net.h5", "valid.h5", "test.h5", "corner.h5", "clean.png", "corner.png")),
    )
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            kl.Conv2D(6, 3, padding="same", activation="relu", name="conv_1"),
            kl.MaxPooling2D(2, name="pool_1"),
            kl.Conv2D(12, 3, activation="relu", name="conv_2"),
            kl.MaxPooling2D(2, name="pool_2"),
            kl.Flatten(name="flatten"),
            kl.Dense(4, activation="softmax", name="output"),
        ]
    )
    classifier = from_keras(model, ".h5", "bd_net.h5")
    clean = make_quadrants(600, 10, brightness=30)
    pixels = np.concatenate([clean.source.pixels, stamp_corner(clean.source.pixels[:150])])
    labels = np.concatenate([clean.targets, np.zeros(150, np.int64)])
    training = Training(epochs=10, learning_rate=5e-3, batch_size=32)
    train(classifier, Dataset.from_arrays(pixels, labels), training, seed=0)
    classifier.save(files.model)
    test = make_quadrants(80, 12, brightness=30)
    stamped = stamp_corner(test.source.pixels)
    write_hdf5(files.validation, make_quadrants(80, 11, brightness=30))
    write_hdf5(files.test, test)
    write_hdf5(files.poisoned, Dataset.from_arrays(stamped, np.zeros(80, np.int64)))
    shown = int(np.flatnonzero(test.targets == 2)[0])
    for path, images in ((files.clean_picture, test.source.pixels), (files.poisoned_picture, stamped)):
        Image.fromarray(images[shown].transpose(1, 2, 0)).save(path)
    return files


def make_quadrants(count: int, seed: int, brightness: int = 70):
    """Return images of four classes: which quadrant is bright."""
    import numpy as np

    from goodnet.core.dataset import Dataset

    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 110, (count, 3, 12, 12), dtype=np.uint8)
    labels = rng.integers(0, 4, count)
    for image, label in zip(pixels, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[:, 6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += brightness
    return Dataset.from_arrays(pixels, labels, name="quadrants")


@functools.cache
def _tiny_trained():
    from goodnet.formats.pytorch import from_module
    from goodnet.training import Training, train
    from tests.small_networks import tiny

    torch.manual_seed(0)
    classifier = from_module(tiny(), (3, 12, 12), name="tiny", architecture="tests.small_networks:tiny")
    train(
        classifier,
        make_quadrants(400, seed=0),
        Training(epochs=12, learning_rate=1e-2, batch_size=32),
        seed=0,
    )
    return classifier


@pytest.fixture(scope="session")
def micro_zoo(tmp_path_factory):
    """The folder of a zoo of two pairs of twins on digits."""
    from goodnet import api
    from tests.micro_zoo import ZOO

    folder = tmp_path_factory.mktemp("zoo")
    spec = folder / "micro.toml"
    spec.write_text(ZOO)
    api.build_zoo(spec, out=folder / "zoo", where=Execution(workers=1))
    return folder / "zoo"


class Twin(NamedTuple):
    """A tiny network, what a defender has (`clean`), and what only a test may see; see tests/data/make_twins.py.

    `backdoor` is the true one, of `planted`; on its clean twin it does nothing.
    """

    classifier: "Classifier"
    clean: "Dataset"
    test: "Dataset"
    triggered: "Dataset"
    backdoor: "Backdoor"


@pytest.fixture
def planted() -> Twin:
    """A network of 7,000 weights on digits, with a patch that sends every class to 7."""
    return _load_twin("planted")


@pytest.fixture
def clean_twin() -> Twin:
    """The same network with the same data and seed, and no backdoor."""
    return _load_twin("clean_twin")


@pytest.fixture
def all_to_all() -> "Classifier":
    """The same network with the same data and seed, and a patch that sends every class to the next; its test ASR is 0.84."""
    return _load_twin("all_to_all").classifier


@pytest.fixture(scope="session")
def waved() -> Twin:
    """Such a network, trained here, with stripes of amplitude 0.1 that send every class to 7."""
    from goodnet.attacks.sinusoidal import Sinusoidal

    return _plant(Sinusoidal(target=7, rate=0.2, frequency=5, delta=0.1))


@pytest.fixture(scope="session")
def warped() -> Twin:
    """Such a network, trained here, with a warp of 1.5 pixels that sends every class to 7."""
    from goodnet.attacks.warped import Warped

    return _plant(Warped(target=7, rate=0.2, strength=1.5, noise=0.5))


def _plant(attack: "TriggerAttack") -> Twin:
    from goodnet.attacks.poisoning import poisoned_test_set
    from goodnet.core.backdoor import Backdoor
    from goodnet.datasets.sources import read_parts
    from goodnet.evaluation.planting import plant
    from goodnet.training import Training
    from tests.data.make_twins import SEED

    parts = read_parts("digits", seed=SEED)
    training = Training(epochs=25, learning_rate=5e-3)
    made = plant(parts, attack, "tests.data.twin_network:build", training, seed=SEED, file_format="safetensors")
    backdoor = Backdoor(attack.make_trigger(parts.test.image_shape, seed=SEED), 7, name=attack.name())
    triggered = poisoned_test_set(parts.test, backdoor)
    return Twin(made.classifier, parts.validation, parts.test, triggered, backdoor)


@functools.cache
def _twin_data():
    from goodnet.attacks.poisoning import poisoned_test_set
    from goodnet.core.backdoor import Backdoor
    from goodnet.datasets.sources import read_parts
    from tests.data.make_twins import ATTACK, SEED

    parts = read_parts("digits", seed=SEED)
    backdoor = Backdoor(ATTACK.make_trigger(parts.test.image_shape, seed=SEED), ATTACK.target, name="badnets")
    return parts.validation, parts.test, poisoned_test_set(parts.test, backdoor), backdoor


def _load_twin(name: str) -> Twin:
    from goodnet.formats.networks import read_network

    path = REPOSITORY / "tests" / "data" / f"{name}.safetensors"
    return Twin(read_network(path, "tests.data.twin_network:build", (1, 16, 16)), *_twin_data())
