"""Rates against Wilson intervals worked out by hand; records as JSON."""

import json
import math

import pytest
from pydantic import TypeAdapter, ValidationError

from goodnet.core.backdoor import Backdoor
from goodnet.core.errors import UnreadableData
from goodnet.core.results import Detection, Evaluation, Failure, Metrics, Rate, Row, Run


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (50, 50, 0.92865, 1.0),
        (0, 50, 0.0, 0.07135),
        (49, 50, 0.89505, 0.99646),
        (1, 2, 0.09453, 0.90547),
        (0, 1, 0.0, 0.79346),
        (1, 1, 0.20654, 1.0),
        (81, 263, 0.25529, 0.36621),  # Newcombe, Statistics in Medicine 17 (1998), table I
        (15, 148, 0.06239, 0.16049),
        (1, 29, 0.00611, 0.17176),
    ],
)
def test_wilson_interval(hits: int, n: int, low: float, high: float) -> None:
    rate = Rate.of(hits, n)
    assert (rate.value, rate.n, rate.hits) == (hits / n, n, hits)
    assert rate.low == pytest.approx(low, abs=1e-5)
    assert rate.high == pytest.approx(high, abs=1e-5)


@pytest.mark.parametrize(("hits", "n"), [(3, 10), (97, 100), (500, 1000), (1, 7)])
def test_the_ends_of_the_interval_solve_wilson_s_equation(hits: int, n: int) -> None:
    rate = Rate.of(hits, n)
    for end in (rate.low, rate.high):
        assert abs(rate.value - end) == pytest.approx(1.9599639845 * math.sqrt(end * (1 - end) / n))


@pytest.mark.parametrize("n", [1, 3, 7, 50, 12345])
def test_the_interval_touches_its_ends_exactly_and_holds_the_value(n: int) -> None:
    assert Rate.of(0, n).low == 0.0
    assert Rate.of(n, n).high == 1.0
    assert all(rate.low <= rate.value <= rate.high for rate in (Rate.of(hits, n) for hits in (0, n // 2, n)))


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (-1, 5), (6, 5), (1, -1)])
def test_counts_that_make_no_rate(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"got hits {hits}, n {n}"):
        Rate.of(hits, n)


def test_a_rate_prints_with_four_digits() -> None:
    assert str(Rate.of(1, 3)) == "0.3333"


def evaluation() -> Evaluation:
    metrics = Metrics(clean_accuracy=Rate.of(49, 50), attack_success_rate={"poisoned.h5": Rate.of(0, 50)})
    rows = (
        Row(name="original", metrics=Metrics()),
        Row(name="repaired", metrics=metrics, channels_pruned=45),
    )
    return Evaluation(rows=rows, input_range="0..255", input_range_reason="accuracy")


def test_records_survive_json() -> None:
    before = evaluation()
    after = Evaluation.model_validate_json(before.model_dump_json())
    assert after == before
    assert after.subject.name == "repaired"
    assert after.subject.metrics.clean_accuracy == Rate.of(49, 50)
    assert after.rows[0].metrics.clean_accuracy is None
    run = Run(verb="scan", seconds=1.5, started="now", versions={}, inputs={}, error=Failure(kind="E", message="m"))
    assert Run.model_validate_json(run.model_dump_json()) == run
    assert run.schema_version == 2


@pytest.mark.parametrize("record", [Rate, Metrics, Row, Evaluation, Run, Failure])
def test_misspelt_fields_are_refused(record: type) -> None:
    with pytest.raises(ValidationError, match="clean_acuracy"):
        record(clean_acuracy=1)


def test_records_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Rate.of(1, 2).n = 3  # type: ignore[misc]


def test_defaults_are_not_shared_between_records() -> None:
    first, second = Metrics(), Metrics()
    first.attack_success_rate["x"] = Rate.of(1, 2)
    assert second.attack_success_rate == {}


@pytest.mark.parametrize(
    ("suspected", "words"),
    [
        ((), ""),
        ((Backdoor(None, 2), Backdoor(None, 0)), "target 2, 0"),
        ((Backdoor(None, 2, (1,)),), "target 2 (from 1)"),
        ((Backdoor(None, 2, (0, 1)), Backdoor(None, 0)), "target 2 (from 0, 1), 0"),
        (
            tuple(Backdoor(None, label, ((label - 1) % 3,)) for label in range(3)),
            "all to all: each of 3 classes is the target of another",
        ),
    ],
)
def test_targets_in_words(suspected, words) -> None:
    assert Detection("backdoored", (1.0, 2.0, 3.0), 5.0, suspected).name_targets() == words


@pytest.mark.parametrize(
    ("hits", "drop", "keeps"), [(49, 0.02, True), (48, 0.02, False), (35, 0.3, True), (50, 0, True)]
)
def test_a_drop_of_exactly_the_budget_is_within_it(hits: int, drop: float, keeps: bool) -> None:
    # 1 - 0.98 is 0.020000000000000018, and 1 - 0.7 is 0.30000000000000004: one image, or fifteen, must still be let go.
    assert Rate.of(hits, 50).keeps(Rate.of(50, 50), drop) is keeps


def test_a_detection_prints_its_verdict_and_the_highest_scores() -> None:
    found = Detection("backdoored", (1.25, math.nan, 9.0), 5.0, (Backdoor(None, 2),), reason="one; <two>")
    assert str(found).splitlines() == [
        "verdict: backdoored, target 2",
        "class  score",
        "2      9.0    suspected",
        "0      1.2",
        "one",
        "<two>",
    ]
    assert "<p>&lt;two&gt;</p>" in found._repr_html_()
    assert found.targets == (2,)


def test_unknown_scores_are_null_in_json_and_equal_when_read_back() -> None:
    found = Detection("clean", (1.5, float("nan")), 5.0, evidence={"margin": (float("nan"), 0.5)})
    content = json.loads(found.to_json())
    assert (content["scores"], content["evidence"]) == ([1.5, None], {"margin": [None, 0.5]})
    assert TypeAdapter(Detection).validate_json(found.to_json()) == found


def test_an_evaluation_is_saved_and_prints_a_column_for_each_network(tmp_path) -> None:
    found = evaluation()
    assert found.save(tmp_path / "new" / "evaluation.json") == tmp_path / "new" / "evaluation.json"
    assert Evaluation.load(tmp_path / "new" / "evaluation.json") == found
    lines = str(found).splitlines()
    assert lines[1].split() == ["original", "repaired"]
    assert lines[2].split() == ["clean", "accuracy", "0.9800", "[0.895,", "0.996]", "n=50"]
    assert lines[-1] == "input range 0..255 (accuracy)"
    assert "<th>repaired</th>" in found._repr_html_()
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UnreadableData, match=r"other\.json: expected a record of the kind Evaluation"):
        Evaluation.load(tmp_path / "other.json")


def test_a_run_is_saved_and_prints_what_was_run(tmp_path) -> None:
    run = Run(
        verb="attack",
        method="badnets",
        seed=3,
        seconds=1.25,
        started="2026-01-01T00:00:00+00:00",
        versions={},
        inputs={"data: a.h5": "0123456789abcdef"},
        error=Failure(kind="MethodFailed", message="<no>"),
    )
    assert run.save(tmp_path) == tmp_path / "run.json"
    assert Run.load(tmp_path) == run
    assert str(run).splitlines() == [
        "a run of goodnet attack",
        "verb        attack",
        "method      badnets",
        "seed        3",
        "started     2026-01-01T00:00:00+00:00",
        "seconds     1.2",
        "data: a.h5  0123456789ab...",
        "error       MethodFailed: <no>",
    ]
    assert "MethodFailed: &lt;no&gt;" in run._repr_html_()
