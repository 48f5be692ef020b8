"""Keras weights alone, in the model of a user's factory."""

import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers as kl

from goodnet.core.errors import UnreadableModel, UnwritableOutput
from goodnet.formats.networks import read_network
from tests.formats.keras_networks import close, disturb, images_for, logits_of, run, sequential


def make(units: int = 4) -> Any:
    return sequential([kl.Conv2D(4, 3, activation="relu"), kl.GlobalAveragePooling2D(), kl.Dense(units)])


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a factory that needs no arguments, as a user's file has it."""
    module = types.ModuleType("users_networks")
    module.build = partial(make, 4)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_networks", module)
    return "users_networks:build"


def test_there_and_back(factory: str, tmp_path: Path) -> None:
    model = make()
    model.save_weights(tmp_path / "net.weights.h5")
    classifier = read_network(tmp_path / "net.weights.h5", factory)
    theirs, ours = images_for(model)
    close(run(classifier, ours), logits_of(model, theirs))
    disturb(classifier)
    model.load_weights(classifier.save(tmp_path / "new.weights.h5"))
    close(run(classifier, ours), logits_of(model, theirs))
    with pytest.raises(UnwritableOutput, match=r"written to \*\.weights\.h5"):
        classifier.save(tmp_path / "new.h5")


def test_weights_of_another_model(factory: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    make(units=7).save_weights(tmp_path / "net.weights.h5")
    with pytest.raises(UnreadableModel, match="do not fit the architecture 'users_networks:build'"):
        read_network(tmp_path / "net.weights.h5", factory)
