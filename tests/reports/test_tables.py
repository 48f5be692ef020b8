"""Tables: what is read back from them are the numbers that went in."""

import csv
import io

import numpy as np
import pytest
from rich.console import Console

from goodnet.core.dataset import ArraySource, Dataset
from goodnet.core.repairs import Change, Repair, RepairedNetwork
from goodnet.core.results import Evaluation, Metrics, Rate, Row, named_rates
from goodnet.reports.tables import (
    class_table,
    data_table,
    evaluation_csv,
    evaluation_tables,
    layer_table,
    pixel_range,
    pruning_csv,
    repair_table,
    show_rate,
    to_csv,
)


def show(table, width=200):
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(table)
    return console.file.getvalue()


def show_all(evaluation, width=200):
    return "".join(show(table, width) for table in evaluation_tables(evaluation, width))


def read(text):
    return list(csv.reader(io.StringIO(text)))


def make_evaluation(sets=("sunglasses.h5",), pairs=1):
    success = {name: Rate.of(49 - number, 50) for number, name in enumerate(sets)}
    original = Row(name="original", metrics=Metrics(clean_accuracy=Rate.of(98, 100), attack_success_rate=success))
    rows = [original]
    for number in range(pairs):
        metrics = Metrics(
            clean_accuracy=Rate.of(90 - number, 100), attack_success_rate=dict.fromkeys(sets, Rate.of(7, 50))
        )
        rows.append(
            Row(name=f"{number}", metrics=metrics, channels_pruned=45, channels=60, order="ascending", threshold=0.04)
        )
        update = {
            "refused_clean": Rate.of(8, 100),
            "refused_poisoned": dict.fromkeys(sets, Rate.of(43, 50)),
            "detection_accuracy": dict.fromkeys(sets, Rate.of(135, 150)),
        }
        rows.append(
            rows[-1].model_copy(update={"name": f"GoodNet({number})", "metrics": metrics.model_copy(update=update)})
        )
    return Evaluation(rows=tuple(rows), input_range="0..255", input_range_reason="as given")


def test_a_pruning_sweep_as_csv():
    accuracy, success = [0.98, 1 / 3, 0.1], [1.0, 0.75, 1e-9]
    rows = read(pruning_csv({"Accuracy": accuracy, "ASR": success}))
    assert rows[0] == ["Neurons Pruned", "Accuracy", "ASR"]
    assert [[float(cell) for cell in row] for row in rows[1:]] == [
        [level, accuracy[level], success[level]] for level in range(3)
    ]
    assert [row[0] for row in rows[1:]] == ["0", "1", "2"]


def test_commas_and_quotes_in_names():
    text = to_csv(["a,b", 'c"d'], [["x\ny", 1.5]])
    assert read(text) == [["a,b", 'c"d'], ["x\ny", "1.5"]]
    assert "\r" not in text


def test_the_columns_carry_the_name_of_the_set_only_where_there_are_several():
    one = named_rates(make_evaluation().rows[2].metrics)
    assert list(one) == ["clean accuracy", "ASR", "refused clean", "refused poisoned", "detection accuracy"]
    two = named_rates(make_evaluation(("a.h5", "b.h5")).rows[2].metrics)
    assert list(two)[1:3] == ["ASR, a.h5", "ASR, b.h5"]
    assert two["ASR, b.h5"] == Rate.of(7, 50)
    assert "refused poisoned, b.h5" in two


def test_an_evaluation_as_csv_reads_back_to_its_rates():
    evaluation = make_evaluation(("a.h5", "b, c.h5"))
    header, *rows = read(evaluation_csv(evaluation))
    assert header[:5] == ["network", "order", "threshold", "channels pruned", "channels"]
    assert [row[:5] for row in rows] == [
        ["original", "", "", "", ""],
        ["0", "ascending", "0.04", "45", "60"],
        ["GoodNet(0)", "ascending", "0.04", "45", "60"],
    ]
    for row, written in zip(evaluation.rows, rows, strict=True):
        cells = dict(zip(header, written, strict=True))
        rates = {name: rate for name, rate in named_rates(row.metrics).items() if rate is not None}
        for name, rate in rates.items():
            numbers = [float(cells[f"{name}{part}"]) for part in ("", " n", " low", " high")]
            assert numbers == [rate.value, rate.n, rate.low, rate.high]
        assert all(cells[name] == "" for name in header[5:] if name.split(" n")[0] in {"refused clean"} - set(rates))
    assert dict(zip(header, rows[0], strict=True))["refused clean low"] == ""
    assert float(dict(zip(header, rows[0], strict=True))["ASR, b, c.h5"]) == 0.96


def test_nothing_pruned_is_not_left_blank():
    row = Row(name="x", metrics=Metrics(clean_accuracy=Rate.of(1, 2)), channels_pruned=0, channels=60)
    evaluation = Evaluation(rows=(row,), input_range="0..1", input_range_reason="")
    assert read(evaluation_csv(evaluation))[1][:5] == ["x", "", "", "0", "60"]


def test_up_to_three_networks_stand_side_by_side():
    text = show_all(make_evaluation())
    lines = text.splitlines()
    heading = next(line for line in lines if "original" in line)
    assert heading.index("original") < heading.index(" 0 ") < heading.index("GoodNet(0)")
    asr = next(line for line in lines if "ASR" in line)
    low, high = Rate.of(49, 50).low, Rate.of(49, 50).high
    assert f"0.9800 [{low:.3f}, {high:.3f}] n=50" in asr
    assert asr.count("n=50") == 3
    assert "45/60" in text
    assert "95 % Wilson interval" in text


def test_more_networks_stand_one_below_the_other():
    text = show_all(make_evaluation(pairs=3))
    assert "n = 100 (clean), 50 (sunglasses.h5)" in text
    positions = [text.index(name) for name in ("original", "GoodNet(0)", "GoodNet(1)", "GoodNet(2)")]
    assert positions == sorted(positions)
    assert "0.8800" in text


@pytest.mark.parametrize("width", [80, 110, 160, 220])
def test_nothing_is_cut_off_however_narrow_the_terminal(width):
    evaluation = make_evaluation(("one.h5", "two.h5"), pairs=3)
    text = show_all(evaluation, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for row in evaluation.rows:
        assert row.name in text
        for rate in named_rates(row.metrics).values():
            assert rate is None or f"{rate.value:.4f}" in text
    for word in ("detection", "refused", "one.h5", "two.h5"):
        assert word in text


def test_a_rate():
    rate = Rate.of(1, 4)
    assert show(show_rate(rate)).strip() == f"0.2500 [{rate.low:.3f}, {rate.high:.3f}] n=4"
    assert show_rate(None) == ""


@pytest.mark.parametrize("name", ["faces [v2].h5", "[/b].h5", "[red]x[/red]"])
def test_names_are_no_markup(name, tiny_classifier):
    evaluation = make_evaluation((name, "b.h5"), pairs=2)
    rows = tuple(row.model_copy(update={"name": f"{name}{i}"}) for i, row in enumerate(evaluation.rows))
    for shown in (rows[:3], rows):
        text = show_all(evaluation.model_copy(update={"rows": shown}), width=400)
        assert f"{name}0" in text
        assert "ASR," in text
        assert name in text.replace(f"{name}0", "")
    data = Dataset.from_arrays(np.zeros((2, 1, 2, 2), np.uint8), [0, 1], name=name)
    assert name in show(data_table(data))
    network = RepairedNetwork(name, tiny_classifier, Rate.of(1, 2), Change(why=name))
    text = show(repair_table(Repair((network,), Rate.of(2, 2)), {name: f"out/{name}"}))
    assert text.count(name) == 3


def test_a_repair(tiny_classifier):
    changes = Change(layer="pool_2", channels_pruned=(1, 4), channels=6, order="ascending", threshold=0.04)
    network = RepairedNetwork("4_percent", tiny_classifier, Rate.of(45, 50), changes)
    text = show(repair_table(Repair((network,), Rate.of(50, 50)), {"4_percent": "out/repaired.h5"}))
    line = next(line for line in text.splitlines() if "4_percent" in line)
    for part in ("0.9000", "n=50", "2/6 channels of pool_2 pruned, ascending", "out/repaired.h5"):
        assert part in line
    assert "1.0000" in next(line for line in text.splitlines() if "original" in line)


def test_layers(tiny_classifier):
    lines = show(layer_table(tiny_classifier)).splitlines()
    pool = next(line for line in lines if "pool_2" in line)
    assert "6 x 2 x 2" in pool
    assert "yes" in pool
    output = next(line for line in lines if "output" in line and "Linear" in line)
    assert "100" in output
    assert "yes" not in output


def test_a_data_set():
    pixels = np.full((5, 3, 4, 6), 20, np.uint8)
    pixels[4, 2, 3, 5], pixels[2, 0, 0, 0] = 250, 3
    data = Dataset.from_arrays(pixels, [2, 2, 2, 7, 7], name="data.h5")
    text = show(data_table(data))
    for part in ("data.h5", "3 x 4 x 6", "3 to 250 of 0..255", "labels 2 to 7", "2 to 3, median 2.5"):
        assert part in text
    assert "true labels" not in text
    poisoned = Dataset.from_arrays(pixels, [0] * 5, true_labels=[2, 2, 2, 7, 7])
    assert "known: the set is poisoned" in show(data_table(poisoned))
    assert "none" in show(data_table(Dataset.from_arrays(pixels)))
    assert pixel_range(data) == pytest.approx((3 / 255, 250 / 255))


def test_which_folder_is_which_class():
    names = ("", "1", "cat [v2]", "", "empty", "x" * 150)
    data = Dataset(ArraySource(np.zeros((4, 1, 2, 2), np.uint8)), np.array([2, 1, 2, 5]), class_names=names)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in show(class_table(data)).splitlines()]
    filled = [row for row in rows if row]
    assert filled == [["1", "1", "1"], ["2", "cat [v2]", "2"], ["4", "empty", "0"], ["5", "x" * 150, "1"]]
    narrow = show(class_table(data), width=60)
    assert narrow.count("x") == 150
    assert "..." not in narrow.replace("…", "...")
