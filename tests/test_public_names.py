"""Every public name works twice, in any order, in a process that has loaded nothing yet; no package hides one."""

import importlib
import pkgutil
import random
import subprocess
import sys
from pathlib import Path

import pytest

import goodnet
from goodnet import cli

NETWORK = Path(__file__).parent / "data" / "planted.safetensors"
GONE = "gone.h5"


def refused(call, *arguments, **options):
    """Call a verb on files that are not there: it gets as far as looking for them."""
    with pytest.raises(goodnet.GoodnetError, match="gone"):
        call(*arguments, **options)


def use_patch():
    import torch

    patch = goodnet.Patch(torch.zeros(1, 4, 4), torch.ones(3, 4, 4))
    assert patch.size == 0


def use_dataset():
    import numpy as np

    assert len(goodnet.Dataset.from_arrays(np.zeros((2, 3, 4, 4), np.uint8), np.zeros(2, np.int64))) == 2


def use_repair():
    with pytest.raises(goodnet.GoodnetError, match="a method made by itself"):
        goodnet.Repair((), goodnet.Rate.of(1, 2)).save("gone")


def use_error(kind):
    with pytest.raises(kind, match="gone"):
        raise kind("gone")


def load_network():
    return goodnet.load_classifier(
        NETWORK, reading=goodnet.Reading(architecture="tests.data.twin_network:build", image_shape=(1, 16, 16))
    )


#: How each name is used.
USES = {
    "__version__": lambda: goodnet.__version__.split("."),
    "evaluate": lambda: refused(goodnet.evaluate, GONE, GONE),
    "export": lambda: refused(goodnet.export, GONE, out="out.onnx"),
    "guard": lambda: refused(goodnet.guard, GONE, GONE, out="out"),
    "load_classifier": lambda: load_network().classes == 10 or pytest.fail("it is a network of digits"),
    "load_dataset": lambda: refused(goodnet.load_dataset, GONE),
    "predict": lambda: refused(goodnet.predict, GONE, ["gone.png"]),
    "repair": lambda: refused(goodnet.repair, GONE, GONE, out="out"),
    "report": lambda: refused(goodnet.report, ["gone"], out="out.html"),
    "scan": lambda: refused(goodnet.scan, GONE, GONE),
    "verify": lambda: refused(goodnet.verify, "gone"),
    "Backdoor": lambda: goodnet.Backdoor(None, 3),
    "Patch": use_patch,
    "Classifier": lambda: isinstance(load_network(), goodnet.Classifier) or pytest.fail("it is a classifier"),
    "Dataset": use_dataset,
    "GoodnetError": lambda: refused(goodnet.scan, GONE, GONE, method="last_layer"),
    "InputError": lambda: use_error(goodnet.InputError),
    "MethodFailed": lambda: use_error(goodnet.MethodFailed),
    "Repair": use_repair,
    "Detection": lambda: refused(goodnet.Detection.load, "gone"),
    "Evaluation": lambda: refused(goodnet.Evaluation.load, "gone"),
    "Metrics": lambda: goodnet.Metrics(clean_accuracy=goodnet.Rate.of(1, 2)),
    "Rate": lambda: str(goodnet.Rate.of(1, 2)) == "0.5000" or pytest.fail("it is a half"),
    "Run": lambda: refused(goodnet.Run.load, "gone"),
    "Verification": lambda: goodnet.Verification(verb="scan", comparisons=()).equal or pytest.fail("nothing differs"),
    "Reading": lambda: goodnet.Reading(resize="crop").confine or pytest.fail("it confines"),
    "Execution": lambda: goodnet.Execution("cpu").place().type == "cpu" or pytest.fail("it is the processor"),
    "GuardOutcome": lambda: goodnet.GuardOutcome.__doc__ or pytest.fail("it has no words"),
    "GoodNet": lambda: refused(goodnet.GoodNet.load, "gone"),
}


def use_all(seed):
    """Use every name twice, in an order that `seed` decides."""
    names = [*USES, *USES]
    random.Random(seed).shuffle(names)
    for name in names:
        USES[name]()


def test_every_name_is_used():
    assert set(USES) == set(goodnet.__all__) == set(dir(goodnet))


@pytest.mark.parametrize("seed", range(3))
def test_every_name_twice_in_any_order(seed, repository, tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(repository)!r})\n"
        "from tests.test_public_names import use_all\n"
        "assert not {'torch', 'goodnet.api'} & set(sys.modules), 'the test loads what the names should load'\n"
        f"use_all({seed})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_report_after_a_scan(tmp_path):
    refused(goodnet.scan, GONE, GONE)
    with pytest.raises(goodnet.GoodnetError, match="no run in this folder"):
        goodnet.report([tmp_path], out=tmp_path / "report.html")


@pytest.mark.parametrize("name", ["goodnet", "goodnet.api"])
def test_no_module_has_a_public_name_and_hides_it_once_it_is_loaded(name):
    package = importlib.import_module(name)
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert len(modules) > 8
    functions = {word for word, value in vars(package).items() if callable(value)}
    assert modules.isdisjoint(functions | set(getattr(package, "__all__", ())))


def test_no_module_of_the_command_line_hides_its_two_names():
    assert {module.name for module in pkgutil.iter_modules(cli.__path__)}.isdisjoint({"main", "goodnet"})


def test_a_name_that_is_not_public():
    with pytest.raises(AttributeError, match="module 'goodnet' has no attribute 'cure'"):
        _ = goodnet.cure
    with pytest.raises(AttributeError, match=r"module 'goodnet\.cli' has no attribute 'cure'"):
        _ = cli.cure
