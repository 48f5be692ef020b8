"""Weights that Keras saved alone, in the model that the user's own factory makes <-> `Classifier`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import h5py
from torch import nn

from goodnet.core.classifier import Classifier
from goodnet.core.errors import UnreadableModel, UnwritableOutput
from goodnet.core.one_line import describe_error
from goodnet.formats.hdf5_files import require_own_content
from goodnet.formats.keras import KerasSource, from_keras
from goodnet.formats.keras_weights import write_weights_of
from goodnet.formats.shown_paths import show_path

_ENDING = ".weights.h5"


def fill_keras(path: Path, model: Any, architecture: str) -> Classifier:
    """Read weights into a Keras model.

    Args:
        path: what `save_weights` wrote.
        model: of the user's factory.
        architecture: the factory, for messages and to open the file again.

    Raises:
        UnreadableModel: the file is damaged, refers to others, or does not fit the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"copy{_ENDING}"
        try:
            with h5py.File(path, "r") as file:
                require_own_content(file, show_path(path), path.stat().st_size, UnreadableModel)
            copy.write_bytes(path.read_bytes())
            model.load_weights(copy)
        except UnreadableModel:
            raise
        except Exception as error:  # h5py and Keras fail in many ways on weights of another model
            raise UnreadableModel(
                f"{path}: the weights do not fit the architecture '{architecture}': {describe_error(error)}; give the factory of "
                "the model that they were saved of"
            ) from error
    classifier = from_keras(model, _ENDING, name=show_path(path.name))
    classifier.architecture = architecture
    classifier.source = FactorySource(cast(KerasSource, classifier.source))
    return classifier


@dataclass(frozen=True)
class FactorySource:
    """Writes weights alone; `whole` is how the whole model would be written."""

    whole: KerasSource

    @property
    def suffix(self) -> str:
        """The ending by which Keras knows weights."""
        return _ENDING

    def write(self, network: nn.Module, path: Path) -> None:
        """Write what `load_weights` reads.

        Raises:
            UnwritableOutput: the path has another ending.
        """
        if not path.name.endswith(_ENDING):
            raise UnwritableOutput(f"{path}: weights of Keras are written to *{_ENDING}, got '{path.name}'")
        write_weights_of(self.rebuild(network), path)

    def rebuild(self, network: nn.Module) -> Any:
        """Return the Keras model, filled with the network's weights."""
        return self.whole.rebuild(network)
