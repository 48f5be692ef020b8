"""`predict`: what a GoodNet says of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from goodnet.api.loading import DataLike, load_dataset
from goodnet.core.dataset import Dataset
from goodnet.formats.images import read_pictures
from goodnet.guards.disagreement import GoodNet


def predict(goodnet: GoodNet | str | Path, images: Sequence[str | Path] | DataLike) -> list[int]:
    """Return the class of every image: N ("one more than the last") where the GoodNet says backdoored.

    Args:
        goodnet: a `GoodNet`, or the folder that holds one.
        images: picture files, or a data set.

    Raises:
        UnreadableModel: there is no GoodNet in the folder.
        UnreadableData: a picture cannot be read.
        WrongShape: a picture has another size than the network takes.
    """
    guard = goodnet if isinstance(goodnet, GoodNet) else GoodNet.load(goodnet)
    channels = guard.original.image_shape[0]
    if isinstance(images, Dataset | str | Path):
        dataset = load_dataset(images, channels=channels)
    else:
        dataset = read_pictures(images, channels)
    return [int(label) for label in guard.answers(dataset).goodnet]
