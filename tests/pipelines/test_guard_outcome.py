"""What is said of a guard."""

from goodnet.core.backdoor import Backdoor
from goodnet.core.results import Rate
from goodnet.guards.calibration import Calibration
from goodnet.pair.goodnet import GoodNet
from goodnet.pipelines.guard_outcome import GuardOutcome
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
        surrogates=(surrogate(Rate.of(3, 3)), surrogate(None)),
        goodnet=goodnet,
        goodnet_false_refusals=None,
        goodnet_refused=None if goodnet is None else Rate.of(0, 4),
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
    assert lines[3] == "trigger of class 7, moved (works on 0.75)  1.000 [0.44, 1.00] n=3  0.000 [0.00, 0.56] n=3"
    assert lines[4].split()[-2:] == ["-", "-"]
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
