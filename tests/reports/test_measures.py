"""The rates of an evaluation in their order; a network without one is left out of its rows."""

from goodnet.core.results import Metrics, Rate
from goodnet.reports.measures import list_measures


def test_every_rate_is_listed_once():
    rates = [Rate.of(hits, 10) for hits in range(11)]
    first = Metrics(clean_accuracy=rates[0], attack_success_rate={"a{}": rates[1], "b": rates[2]})
    second = Metrics(
        clean_accuracy=rates[3],
        target_recall=rates[4],
        attack_success_rate={"b": rates[5]},
        robust_accuracy={"b": rates[6]},
        refused_clean=rates[7],
        refused_clean_of_target=rates[8],
        refused_poisoned={"b": rates[9]},
        detection_accuracy={"b": rates[10]},
    )
    listed = {measure.name: measure for measure in list_measures([("one", first), ("two", second)])}
    assert {name: measure.rows for name, measure in listed.items()} == {
        "clean accuracy": (("one", rates[0]), ("two", rates[3])),
        "target recall": (("two", rates[4]),),
        "attack success rate on a{}": (("one", rates[1]),),
        "attack success rate on b": (("one", rates[2]), ("two", rates[5])),
        "robust accuracy on b": (("two", rates[6]),),
        "clean images refused": (("two", rates[7]),),
        "clean images of the target refused": (("two", rates[8]),),
        "triggered images refused, b": (("two", rates[9]),),
        "clean and triggered told apart, b": (("two", rates[10]),),
    }
    lower = {name.partition(" on")[0] for name, measure in listed.items() if "lower" in measure.better}
    assert lower == {"attack success rate", "clean images refused", "clean images of the target refused"}
    assert list(listed)[:2] == ["clean accuracy", "target recall"]


def test_no_networks_have_no_rates():
    assert list(list_measures([])) == list(list_measures([("one", Metrics())])) == []
