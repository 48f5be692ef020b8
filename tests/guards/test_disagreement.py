"""The GoodNet as a guard of the catalogue, against the plain predictions of its two networks."""

import numpy as np
import pytest

from goodnet.core.backdoor import Backdoor
from goodnet.core.errors import InvalidOption
from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.guards.disagreement import Disagreement
from tests.plain_goodnet import combine, logits


def test_as_a_guard_from_the_catalogue(badnet, repaired_badnet):
    original, clean = read_network(badnet.model), read_data(badnet.test)
    repaired = read_network(repaired_badnet / "repaired_5_percent.h5")
    guard = Disagreement().fit(original, clean, repaired=repaired, seed=0)
    expected = combine(logits(original, clean.images()), logits(repaired, clean.images()))
    assert np.array_equal(guard.predict_all(clean).goodnet, expected)


def test_as_a_guard_with_suspects_only_their_targets_are_refused(pair, tiny_data):
    predictions = Disagreement().fit(pair[0], tiny_data, repaired=pair[1], seed=0).predict_all(tiny_data)
    refused = set(predictions.original[predictions.refused])
    assert len(refused) > 1
    suspected = [Backdoor(None, target) for target in (min(refused), min(refused))]
    guard = Disagreement().fit(pair[0], tiny_data, suspected=suspected, repaired=pair[1], seed=0)
    assert guard.targets == (min(refused),)
    found = guard.predict_all(tiny_data)
    assert np.array_equal(found.refused, predictions.refused & (predictions.original == min(refused)))


def test_as_a_guard_it_needs_a_repaired_network(tiny_classifier, tiny_data):
    assert Disagreement.needs_repaired
    with pytest.raises(InvalidOption, match="expected a repaired network beside the original"):
        Disagreement().fit(tiny_classifier, tiny_data, seed=0)
