"""A file that cannot be written whole is one error of ours, whatever library writes it, and the process goes on.

The HDF5 library and torch end the process with a signal where a disk is full (h5py 3.16, torch 2.13), so all writing goes
through Python.
"""

import resource
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnwritableOutput
from goodnet.formats.arrays import write_hdf5
from goodnet.formats.checkpoints import Checkpoint
from goodnet.formats.keras_weights import write_weights_alone
from goodnet.formats.networks import read_network
from goodnet.pair.deployment import Deployed, DeployedCard, write_pt2


@contextmanager
def files_of_at_most(size):
    """No file may grow beyond so many bytes: writing more fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_images(network, path):
    write_hdf5(path, Dataset.from_arrays(np.zeros((60, 3, 12, 12), np.uint8), np.arange(60) % 4), block=7)


def write_exported(network, path):
    card = DeployedCard(
        name=network.name,
        classes=network.classes,
        image_shape=network.image_shape,
        layout=network.layout,
        input_range=network.input_range,
    )
    write_pt2(Deployed(network.network, network.layout, guarded=False), card, path)


def write_tensors(network, path):
    Checkpoint({"a": torch.zeros(60, 60)}, is_safetensors=path.suffix == ".safetensors", metadata={}).write(path)


WRITERS = [
    ("images.h5", write_images),
    ("weights.pt", write_tensors),
    ("weights.safetensors", write_tensors),
    ("network.pt2", write_exported),
    ("network.h5", lambda network, path: network.save(path)),
    ("network.keras", lambda network, path: network.save(path)),
    ("network.weights.h5", write_weights_alone),
]


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[name for name, _ in WRITERS])
@pytest.mark.parametrize("size", [0, 3000])
def test_a_full_disk(name, write, size, badnet, tmp_path):
    network = read_network(badnet.model)
    path = tmp_path / name
    with files_of_at_most(size), pytest.raises(UnwritableOutput) as caught:
        write(network, path)
    assert str(caught.value) == f"{path}: cannot be written (File too large); check the disk and the path"
    assert not list(tmp_path.iterdir())
    write(network, path)
    assert path.stat().st_size > 3000
