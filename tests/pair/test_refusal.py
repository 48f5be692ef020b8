"""The GoodNet's rule on logits that are written down."""

import math

import numpy as np
import pytest
import torch

from goodnet.pair.refusal import PairPredictions, RefusingPair
from goodnet.pair.shared_layers import PairRunner

#: B says 0, 0, 2; B' says 0, 1, 1.
OF_B = torch.tensor([[math.log(2), 0.0, 0.0], [5.0, 0.0, 1.0], [0.0, 1.0, 2.0]])
OF_B_PRIME = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 9.0, 2.0]])


class Written(PairRunner):
    """Logits of the images whose numbers come in; counts how often B' runs."""

    runs = 0

    def begin(self, images):
        return OF_B[images[:, 0]], (images,)

    def finish(self, values):
        self.runs += 1
        return OF_B_PRIME[values[0][:, 0]]


ALL = torch.arange(3)[:, None]


@pytest.mark.parametrize(
    ("targets", "goodnet", "second"),
    [(None, [0, 3, 3], [0, 1, 1]), ((2,), [0, 0, 3], [-1, -1, 1]), ((0, 1), [0, 3, 2], [0, 1, -1])],
)
def test_scores_and_opinions(targets, goodnet, second):
    scores, opinions = RefusingPair(Written(), 3, targets)(ALL)
    assert opinions.T.tolist() == [[0, 0, 2], second]
    assert scores.argmax(dim=1).tolist() == goodnet
    torch.testing.assert_close(scores[0], torch.tensor([0.5, 0.25, 0.25, 0.0]))
    for row, label in zip(scores, goodnet, strict=True):
        if label == 3:
            assert row.tolist() == [0, 0, 0, 1]
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(3))
    predictions = PairPredictions(opinions[:, 0].numpy(), opinions[:, 1].numpy(), 3, targets)
    assert predictions.goodnet.tolist() == goodnet
    assert np.array_equal(predictions.refused, np.array(goodnet) == 3)
    assert predictions.asked_always == (targets is None)


@pytest.mark.parametrize(
    ("targets", "images", "runs"), [(None, [2], 1), ([0], [2], 0), ([0], [2, 1, 2], 1), ([1], [], 0)]
)
def test_b_prime_runs_only_where_an_image_is_sent_to_a_target(targets, images, runs):
    pair = RefusingPair(Written(), 3, targets)
    scores, opinions = pair(ALL[images])
    assert pair.pair.runs == runs
    # What is said of an image does not hang on its neighbours.
    for place, image in enumerate(images):
        alone = pair(ALL[[image]])
        torch.testing.assert_close((scores[place], opinions[place]), (alone[0][0], alone[1][0]))


@pytest.mark.parametrize(("tolerance", "goodnet"), [(0.4, [0, 3, 3]), (0.6, [0, 0, 3]), (7.5, [0, 0, 2])])
def test_what_b_prime_prefers_by_no_more_than_the_tolerance_is_not_refused(tolerance, goodnet):
    """B' prefers class 1 to B's class by 0.5 on the second image and by 7 on the third."""
    scores, opinions = RefusingPair(Written(), 3, None, tolerance)(ALL)
    assert scores.argmax(dim=1).tolist() == goodnet
    assert PairPredictions(opinions[:, 0].numpy(), opinions[:, 1].numpy(), 3).goodnet.tolist() == goodnet
