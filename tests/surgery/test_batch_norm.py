import pytest

from goodnet.formats.pytorch import from_module
from goodnet.surgery.batch_norm import has_batch_norm, usual_rate
from tests.small_networks import Residual, plain, tiny


@pytest.mark.parametrize(("build", "expected"), [(Residual, True), (plain, True), (tiny, False)])
def test_batch_norm_is_found_wherever_it_is(build, expected):
    classifier = from_module(build(), (3, 14, 14) if build is plain else (3, 12, 12))
    assert has_batch_norm(classifier) is expected
    assert usual_rate(classifier) == (0.01 if expected else 0.0003)


def test_keras_batch_norm(tmp_path):
    import keras

    from goodnet.formats.keras import from_keras

    layers = [
        keras.layers.Conv2D(2, 3),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
    ]
    assert has_batch_norm(from_keras(keras.Sequential([keras.Input((8, 8, 1)), *layers])))
    assert not has_batch_norm(from_keras(keras.Sequential([keras.Input((8, 8, 1)), layers[0], *layers[2:]])))
