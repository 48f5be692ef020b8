import json

import pytest

from goodnet import api

METRICS = ("clean_accuracy", "attack_success_rate", "robust_accuracy", "refused_clean", "refused_poisoned")


@pytest.fixture
def arguments(badnet):
    return ["--clean", badnet.test, "--poisoned", badnet.poisoned]


def test_json_has_the_metric_names_as_keys(badnet, repaired_badnet, arguments, goodnet):
    repaired = repaired_badnet / "repaired_5_percent.h5"
    done = goodnet("evaluate", badnet.model, "--repaired", repaired, *arguments, "--true-labels", badnet.test, "--json")
    assert (done.code, done.err) == (0, "")
    result = json.loads(done.out)
    expected = api.evaluate(
        badnet.model, badnet.test, [badnet.poisoned], repaired=[repaired], true_labels=badnet.test
    ).subject.metrics.model_dump()
    for name in METRICS:
        rates = [result[name]] if "clean" in name else list(result[name].values())
        assert rates
        assert result[name] == expected[name]
        for rate in rates:
            assert set(rate) == {"value", "n", "low", "high"}
            assert 0 <= rate["low"] <= rate["value"] <= rate["high"] <= 1
        if "clean" not in name:
            assert list(result[name]) == ["corner.h5"]
    assert result["attack_success_rate"]["corner.h5"]["n"] < 80
    assert list(result["networks"]) == ["original", "repaired_5_percent", "GoodNet(repaired_5_percent)"]


def test_the_table(badnet, repaired_badnet, arguments, goodnet, tmp_path):
    done = goodnet("evaluate", badnet.model, "--repaired", repaired_badnet, *arguments, "--out", tmp_path)
    assert (done.code, done.err) == (0, "")
    evaluation = api.evaluate(badnet.model, badnet.test, [badnet.poisoned], repaired=[repaired_badnet])
    accuracy, recall, success = (
        [line for line in done.out.splitlines() if line.startswith(f"│ {name} ")]
        for name in ("clean accuracy", "target recall", "ASR")
    )
    assert len(evaluation.rows) > 3
    for row in evaluation.rows:
        assert f"{row.metrics.clean_accuracy.value:.4f}" in "".join(accuracy)
        assert f"{row.metrics.target_recall.value:.4f}" in "".join(recall)
        assert f"{row.metrics.attack_success_rate['corner.h5'].value:.4f}" in "".join(success)
    assert "input range 0..1 (auto: accuracy" in done.out
    assert f"written to {tmp_path}\n" in done.out
    assert {"evaluation.csv", "run.json", "pruning_repair.csv"} <= {path.name for path in tmp_path.iterdir()}


def test_a_goodnet_folder_and_several_poisoned_sets(repaired_badnet, badnet, goodnet):
    done = goodnet(
        "evaluate", repaired_badnet, "--poisoned", badnet.poisoned, "--poisoned", badnet.test, "--target", 1, "--json"
    )
    assert done.code == 0
    result = json.loads(done.out)
    assert list(result["attack_success_rate"]) == ["corner.h5", "test.h5"]
    assert result["clean_accuracy"] is None
    assert result["subject"] == "GoodNet(repaired)"


def test_nothing_to_evaluate_on(badnet, goodnet):
    done = goodnet("evaluate", badnet.model, "--input-range", "0..1")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "give --clean or --poisoned" in done.err


def test_an_onnx_file(repaired_badnet, arguments, goodnet, tmp_path):
    assert goodnet("export", repaired_badnet, "--out", tmp_path / "net.onnx").code == 0
    of_file, of_folder = (
        goodnet("evaluate", path, *arguments, "--json") for path in (tmp_path / "net.onnx", repaired_badnet)
    )
    assert (of_file.code, of_file.err) == (0, "")
    assert json.loads(of_file.out)["networks"] == json.loads(of_folder.out)["networks"]
    (tmp_path / "net.onnx").write_bytes(b"no model")
    done = goodnet("evaluate", tmp_path / "net.onnx", *arguments)
    assert (done.code, done.out) == (2, "")
    assert "expected an ONNX file in one piece" in done.err
