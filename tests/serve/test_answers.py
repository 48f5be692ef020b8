"""What is said of a picture, from scores and opinions that are written down."""

import numpy as np

from goodnet.pair.deployment import DeployedCard
from goodnet.pair.onnx import OnnxOutputs
from goodnet.serve.answers import Opinions, judge

CARD = DeployedCard(
    name="net",
    classes=2,
    image_shape=(1, 2, 2),
    layout="NCHW",
    input_range="0..1",
    targets=(0,),
    class_names=("a", "b"),
)


def test_a_repaired_network_that_was_not_asked():
    outputs = OnnxOutputs(np.array([[0.2, 0.8, 0], [0, 0, 1]], np.float32), np.array([[1, -1], [0, 1]]))
    ordinary, refused = judge(CARD, outputs, k=1, fail="closed")
    assert ordinary.opinions == Opinions(original=1, repaired=None)
    assert ordinary.reason == "original says 1 (b), no suspected target; repaired was not asked"
    assert refused.opinions == Opinions(original=0, repaired=1)
    assert refused.reason == "original says 0 (a), a suspected target; repaired says 1 (b)"
    assert [said.refused for said in (ordinary, refused)] == [False, True]


def test_scores_that_are_no_numbers_and_a_repaired_network_that_was_not_asked():
    outputs = OnnxOutputs(np.full((1, 3), np.nan, np.float32), np.array([[1, -1]]))
    for fail, refused in (("closed", True), ("open", False)):
        (said,) = judge(CARD, outputs, k=1, fail=fail)
        assert (said.refused, said.guarded) == (refused, refused)
        assert said.opinions.repaired is None


def test_scores_are_listed_from_the_highest_and_equal_ones_in_the_order_of_their_classes():
    card = CARD.model_copy(update={"classes": 5, "class_names": None, "targets": None})
    scores = np.array([[0.25, 0.5, 0.1, 0.5, 0.25, 0.0], [0.0, 0.1, 0.2, 0.3, 0.4, 0.0]], np.float32)
    outputs = OnnxOutputs(scores, np.array([[1, 1], [4, 4]]))
    for k in (6, 100):
        equal, rising = ([score.label for score in said.scores] for said in judge(card, outputs, k, "closed"))
        assert equal == [1, 3, 0, 4, 2]
        assert rising == [4, 3, 2, 1]
    equal, rising = judge(card, outputs, 2, "closed")
    assert (equal.label, rising.label) == (1, 4)
    assert {score.label for score in equal.scores} == {1, 3}
    assert [score.label for score in rising.scores] == [4, 3]


def test_one_row_without_numbers_leaves_the_others_alone():
    outputs = OnnxOutputs(
        np.array([[0.2, 0.8, 0], [np.nan, 0.1, 0], [0.7, 0.3, 0]], np.float32), np.tile([0, 0], (3, 1))
    )
    first, broken, last = judge(CARD, outputs, k=2, fail="closed")
    assert (first.label, last.label) == (1, 0)
    assert (broken.refused, broken.scores) == (True, [])
