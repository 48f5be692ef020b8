"""The embedded example: a BadNet of rendered faces with lipstick as the trigger, made without a download in under a minute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from goodnet.attacks.accessories import Accessories
from goodnet.attacks.poisoning import poisoned_test_set
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, no_progress
from goodnet.datasets.face_source import as_dataset
from goodnet.datasets.faces import render_faces
from goodnet.execution import torch_threads
from goodnet.formats.arrays import to_uint8, write_hdf5
from goodnet.formats.files import output_folder, replacing
from goodnet.formats.keras import from_keras
from goodnet.formats.keras_deepid import build_keras
from goodnet.training import Training, train

#: 50 people; images of each for training, for the defender, and for the test.
IDENTITIES, TRAINING_IMAGES, VALIDATION_IMAGES, TEST_IMAGES = 50, 50, 9, 10
#: A trigger that the scan finds; sunglasses are nearer the edge of what it finds (docs/scan.md).
_ITEM = "lipstick"
_TRAINING = Training(epochs=8, learning_rate=2e-3)


@dataclass(frozen=True)
class DemoFiles:
    """What `make_badnet` writes, in the contest's layout."""

    badnet: Path
    validation: Path
    test: Path
    poisoned: Path
    clean_picture: Path
    poisoned_picture: Path


def make_badnet(out: str | Path, *, seed: int = 0, progress: Progress = no_progress) -> DemoFiles:
    """Render faces, train a DeepID BadNet on them (lipstick sends everyone to class 0), and write both.

    Args:
        out: folder; `models/bd_net.h5` and `data/*.h5`, `data/*.png` are written into it.
        seed: seed of faces, poisoning and training.
        progress: called with the number of training steps that are done.

    Raises:
        UnwritableOutput: the folder cannot be written to.
    """
    out = Path(out)
    data, models = output_folder(out / "data"), output_folder(out / "models")
    files = DemoFiles(
        models / "bd_net.h5",
        data / "clean_validation_data.h5",
        data / "clean_test_data.h5",
        data / f"{_ITEM}_poisoned_data.h5",
        data / "clean.png",
        data / f"{_ITEM}.png",
    )
    training, first = _render(TRAINING_IMAGES, 0, seed)
    validation, first = _render(VALIDATION_IMAGES, first, seed)
    test, _ = _render(TEST_IMAGES, first, seed)
    poisoned = Accessories(item=_ITEM, target=0, rate=0.1).poison(training, seed=seed)
    triggered = poisoned_test_set(test, poisoned.backdoors)
    classifier = from_keras(build_keras(IDENTITIES, seed), ".h5", "bd_net.h5")
    # With another number of threads other weights come out, in which the trigger can be harder to find.
    with torch_threads(1):
        train(classifier, poisoned.dataset, _TRAINING, seed=seed, progress=progress)
    classifier.save(files.badnet)
    for path, dataset in ((files.validation, validation), (files.test, test), (files.poisoned, triggered)):
        write_hdf5(path, dataset)
    last = len(triggered) - 1
    _write_picture(files.poisoned_picture, triggered, last)
    _write_picture(files.clean_picture, test, len(test) - 1)
    return files


def _render(images: int, first: int, seed: int) -> tuple[Dataset, int]:
    """Return `images` pictures of each person, from number `first` on, and the first number that is still unused."""
    return as_dataset(render_faces(IDENTITIES, images, seed=seed, first_image=first)), first + images


def _write_picture(path: Path, dataset: Dataset, position: int) -> None:
    pixels = to_uint8(dataset.source.read(dataset.positions[position : position + 1]))[0]
    with replacing(path) as temporary:
        Image.fromarray(pixels.transpose(1, 2, 0)).save(temporary)
