"""The GoodNet's rule on logits that are written down."""

import math

import numpy as np
import pytest
import torch

from goodnet.algorithms.refusal import Answers, RefusingPair
from goodnet.algorithms.shared_layers import PairRunner

#: B says 0, 0, 2; B' says 0, 1, 1.
OF_B = torch.tensor([[math.log(2), 0.0, 0.0], [5.0, 0.0, 1.0], [0.0, 1.0, 2.0]])
OF_B_PRIME = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 9.0, 2.0]])


class Written(PairRunner):
    def forward(self, images):
        return OF_B, OF_B_PRIME


@pytest.mark.parametrize(("targets", "goodnet"), [(None, [0, 3, 3]), ((2,), [0, 0, 3]), ((0, 1), [0, 3, 2])])
def test_scores_and_opinions(targets, goodnet):
    scores, opinions = RefusingPair(Written(), 3, targets)(torch.zeros(3, 1))
    assert opinions.tolist() == [[0, 0], [0, 1], [2, 1]]
    assert scores.argmax(dim=1).tolist() == goodnet
    torch.testing.assert_close(scores[0], torch.tensor([0.5, 0.25, 0.25, 0.0]))
    for row, label in zip(scores, goodnet, strict=True):
        if label == 3:
            assert row.tolist() == [0, 0, 0, 1]
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(3))
    answers = Answers(opinions[:, 0].numpy(), opinions[:, 1].numpy(), 3, targets)
    assert answers.goodnet.tolist() == goodnet
    assert np.array_equal(answers.refused, np.array(goodnet) == 3)
