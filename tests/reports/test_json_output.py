import json

from goodnet.core.results import Evaluation, Metrics, Rate, Row
from goodnet.reports.json_output import evaluation_json


def test_the_metric_names_are_the_keys():
    metrics = Metrics(
        clean_accuracy=Rate.of(9, 10),
        attack_success_rate={"a.h5": Rate.of(1, 4), "b.h5": Rate.of(0, 4)},
        robust_accuracy={"a.h5": Rate.of(2, 4)},
        refused_clean=Rate.of(1, 10),
        refused_poisoned={"a.h5": Rate.of(3, 4)},
    )
    original = Row(name="original", metrics=Metrics(clean_accuracy=Rate.of(10, 10)))
    guarded = Row(name="GoodNet(x)", metrics=metrics, channels_pruned=45, channels=60, threshold=0.04)
    evaluation = Evaluation(rows=(original, guarded), input_range="0..255", input_range_reason="auto")
    result = json.loads(evaluation_json(evaluation))

    assert result["subject"] == "GoodNet(x)"
    assert result["clean_accuracy"]["value"] == 0.9
    assert set(result["clean_accuracy"]) == {"value", "n", "low", "high"}
    assert {name: rate["value"] for name, rate in result["attack_success_rate"].items()} == {"a.h5": 0.25, "b.h5": 0}
    assert result["robust_accuracy"]["a.h5"]["n"] == 4
    assert result["refused_clean"]["value"] == 0.1
    assert result["refused_poisoned"]["a.h5"]["value"] == 0.75
    assert result["input_range"] == "0..255"
    assert result["schema_version"] == 2
    assert list(result["networks"]) == ["original", "GoodNet(x)"]
    assert result["networks"]["original"]["clean_accuracy"]["value"] == 1
    assert result["networks"]["original"]["refused_clean"] is None
    assert "channels_pruned" not in result["networks"]["original"]
    assert result["networks"]["GoodNet(x)"]["channels_pruned"] == result["channels_pruned"] == 45
