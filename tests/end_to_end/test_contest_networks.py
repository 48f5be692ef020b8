"""The whole job on real contest networks, through the command line."""

import json

import numpy as np
import pytest

#: file: (input range, accuracy on validation and on test data, attack success rate), as plain Keras measured them.
NETWORKS = {"bd_net.h5": ("0..255", 1.00, 0.98, 1.00), "sunglasses_bd_net.h5": ("0..1", 0.94, 0.96, 1.00)}
ORDERS = ("ascending", "descending")


@pytest.fixture(scope="module", params=NETWORKS)
def network(request, csaw, tmp_path_factory):
    return request.param, tmp_path_factory.mktemp("contest") / "job"


@pytest.fixture
def job(network, csaw, goodnet):
    """Repair in both orders and evaluate, once per network; later tests read the results."""
    name, out = network
    clean = ["--clean", csaw / "clean_validation_data.h5"]
    if not out.exists():
        for order in ORDERS:
            done = goodnet("repair", csaw / name, "--method", "pruning", *clean, "--order", order, "--out", out / order)
            assert (done.code, done.err) == (0, "")
    arguments = ["--clean", csaw / "clean_test_data.h5", "--poisoned", csaw / "sunglasses_poisoned_data.h5"]
    arguments += ["--true-labels", csaw / "clean_test_data.h5"]
    for order in ORDERS:
        arguments += ["--repaired", out / order]
    if not (out / "evaluation").exists():
        done = goodnet("evaluate", csaw / name, *arguments, "--out", out / "evaluation", "--json")
        assert (done.code, done.err) == (0, "")
        (out / "evaluation.json").write_text(done.out)
    return out, json.loads((out / "evaluation.json").read_text())


def sweep(out, order):
    return np.loadtxt(out / "evaluation" / f"pruning_{order}.csv", delimiter=",", skiprows=1)


def test_the_accuracies_are_those_of_plain_keras(network, job):
    input_range, validation, test, attack = NETWORKS[network[0]]
    out, result = job
    record = json.loads((out / "ascending" / "run.json").read_text())["result"]
    assert record["input_range"] == result["input_range"] == input_range
    assert record["accuracy_before"]["value"] == validation
    original = result["networks"]["original"]
    assert (original["clean_accuracy"]["value"], original["clean_accuracy"]["n"]) == (test, 50)
    success = original["attack_success_rate"]["sunglasses_poisoned_data.h5"]
    assert success["value"] == attack
    assert original["robust_accuracy"]["sunglasses_poisoned_data.h5"]["value"] == 0


def test_the_curve_of_the_reference(network, job):
    levels, accuracy, attack = sweep(job[0], "ascending").T
    assert levels.tolist() == list(range(61))
    assert (accuracy[0], attack[0]) == NETWORKS[network[0]][2:]
    assert (accuracy[60], attack[60]) < (0.05, 0.05)
    if network[0] != "bd_net.h5":
        return  # the reference's figures are of bd_net
    assert set(accuracy[:34]) == {0.98}, "nothing changes until about 33 channels"
    assert (attack[:49] > 0.9).all(), "the attack works until about 50 channels"
    assert accuracy[48] < 0.98
    assert accuracy[54] < 0.7
    assert attack[54] < 0.2


def test_descending_order_costs_accuracy_at_once(network, job):
    ascending, descending = (sweep(job[0], order) for order in ORDERS)
    assert ascending[3, 1] == NETWORKS[network[0]][2]
    assert descending[3, 1] < ascending[3, 1] - 0.05
    for figure in ("rates.png", "pruning.png"):
        assert (job[0] / "evaluation" / figure).stat().st_size > 10_000


def test_both_orders_and_all_thresholds_stand_in_one_table(job):
    out, result = job
    for order in ORDERS:
        record = json.loads((out / order / "run.json").read_text())["result"]
        curve = sweep(out, order)
        for percent in (2, 4, 10):
            row = result["networks"][f"{order}/{percent}_percent"]
            level = record["trace"]["sweep"]["pruned_at_threshold"][f"{percent / 100:g}"]
            assert (row["channels_pruned"], row["channels"], row["order"]) == (level, 60, order)
            assert row["clean_accuracy"]["value"] == curve[level, 1]
            assert row["attack_success_rate"]["sunglasses_poisoned_data.h5"]["value"] == curve[level, 2]
            assert f"GoodNet({order}/{percent}_percent)" in result["networks"]


def test_a_goodnet_refuses_exactly_where_the_two_files_differ(network, job, csaw, goodnet):
    import h5py
    import keras

    out, _ = job
    scale = 255 if NETWORKS[network[0]][0] == "0..1" else 1
    with h5py.File(csaw / "clean_test_data.h5") as clean, h5py.File(csaw / "sunglasses_poisoned_data.h5") as bad:
        images = [np.asarray(file["data"]).transpose(0, 2, 3, 1) / scale for file in (clean, bad)]
        labels = np.asarray(clean["label"])
    models = [
        keras.models.load_model(path, compile=False)
        for path in (csaw / network[0], out / "ascending" / "repaired_10_percent.h5")
    ]
    (c, c_prime), (p, p_prime) = ([m.predict(x, verbose=0).argmax(axis=1) for m in models] for x in images)
    done = goodnet(
        "evaluate",
        out / "ascending",
        *("--clean", csaw / "clean_test_data.h5", "--poisoned", csaw / "sunglasses_poisoned_data.h5", "--json"),
    )
    result = json.loads(done.out)
    assert result["clean_accuracy"]["value"] == np.mean((c == labels) & (c == c_prime))
    assert result["refused_clean"]["value"] == np.mean(c != c_prime)
    assert result["refused_poisoned"]["sunglasses_poisoned_data.h5"]["value"] == np.mean(p != p_prime)
    right = np.concatenate([c == c_prime, p != p_prime])
    assert result["detection_accuracy"]["sunglasses_poisoned_data.h5"]["value"] == right.mean()


@pytest.mark.parametrize("picture", ["clean_label_788.png", "sunglasses_target_0_true_788.png"])
def test_predict_prints_one_number_for_a_picture(picture, job, csaw, goodnet):
    done = goodnet("predict", job[0] / "ascending", csaw / picture)
    assert (done.code, done.err) == (0, "")
    assert int(done.out) in ({788, 1283} if picture.startswith("clean") else {0, 1283})
