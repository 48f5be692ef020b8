"""What is said of a guard."""

import torch

from goodnet.core.backdoor import Backdoor
from goodnet.core.results import Rate
from goodnet.guards.calibration import Calibration
from goodnet.pair.goodnet import GoodNet
from goodnet.pipelines.guard_outcome import GuardOutcome, TargetRefusals, count_refused_of
from goodnet.pipelines.surrogate_triggers import SurrogateRate
from goodnet.reports.guards import guard_record
from goodnet.reports.records import GuardRecord


def surrogate(refused: Rate | None) -> SurrogateRate:
    return SurrogateRate(target=7, surrogate="moved", success=Rate.of(3, 4), refused=refused)


def outcome(goodnet: GoodNet | None, fitted: GoodNet) -> GuardOutcome:
    return GuardOutcome(
        method="ensemble",
        guard=fitted,
        suspected=(Backdoor(None, 1), Backdoor(None, 0), Backdoor(None, 1)),
        false_refusals=Calibration(threshold=0.5, n=40, expected=0.025, bound=0.1),
        refused_clean=Rate.of(1, 4),
        of_targets=(TargetRefusals(target=0, refused=Rate.of(2, 4)), TargetRefusals(target=1, refused=None)),
        surrogates=(surrogate(Rate.of(3, 3)), surrogate(None)),
        goodnet=goodnet,
        goodnet_false_refusals=None,
        goodnet_refused=None if goodnet is None else Rate.of(0, 4),
        goodnet_of_targets=()
        if goodnet is None
        else (TargetRefusals(target=0, refused=Rate.of(0, 4)), TargetRefusals(target=1, refused=Rate.of(1, 1))),
        goodnet_surrogates=() if goodnet is None else (surrogate(Rate.of(0, 3)), surrogate(None)),
    )


def test_it_prints_what_is_refused(tiny_classifier) -> None:
    pair = GoodNet(tiny_classifier, tiny_classifier.copy())
    lines = str(outcome(pair, pair)).splitlines()
    width = len("trigger of class 7, moved (works on 0.75)")
    assert lines[:3] == [
        "share of inputs refused",
        f"{'inputs':{width}}  {'ensemble':22}  GoodNet",
        f"{'the clean images given':{width}}  0.250 [0.05, 0.70] n=4  0.000 [0.00, 0.49] n=4",
    ]
    assert lines[3] == f"{'clean images of class 0':{width}}  0.500 [0.15, 0.85] n=4  0.000 [0.00, 0.49] n=4"
    assert lines[4] == f"{'clean images of class 1':{width}}  -                       1.000 [0.21, 1.00] n=1"
    assert lines[5] == "trigger of class 7, moved (works on 0.75)  1.000 [0.44, 1.00] n=3  0.000 [0.00, 0.56] n=3"
    assert lines[6].split()[-2:] == ["-", "-"]
    alone = outcome(None, pair)
    assert str(alone).splitlines()[1].split() == ["inputs", "ensemble"]
    assert "<th>GoodNet</th>" not in alone._repr_html_()
    assert alone.targets == (0, 1)


def test_its_record_is_read_back_equal(tiny_classifier) -> None:
    pair = GoodNet(tiny_classifier, tiny_classifier.copy(), targets=(0, 1), tolerance=0.25)
    record = guard_record(outcome(pair, pair))
    assert GuardRecord.model_validate_json(record.model_dump_json()) == record
    assert record.goodnet is not None
    assert (record.goodnet.targets, record.goodnet.tolerance, record.threshold) == ((0, 1), 0.25, 0.0)
    assert record.false_refusals is not None
    assert record.false_refusals.model_dump() == {"n": 40, "expected": 0.025, "bound": 0.1}
    assert guard_record(outcome(None, pair)).goodnet is None


def test_each_target_s_own_images_are_counted(tiny_classifier, tiny_data) -> None:
    other = tiny_classifier.copy()
    with torch.no_grad():
        for parameter in other.network.parameters():
            parameter.zero_()
        parameter[0] = 1  # The last bias: every image is a 0.
    pair = GoodNet(tiny_classifier, other)
    rows = count_refused_of(pair, tiny_data, (0, 2, 99))
    predictions = tiny_classifier(tiny_data.images()).argmax(dim=1).numpy()
    for row in rows[:2]:
        own = tiny_data.targets == row.target
        assert row.refused == Rate.of(int((predictions[own] != 0).sum()), int(own.sum()))
    assert rows[2] == TargetRefusals(target=99, refused=None)
