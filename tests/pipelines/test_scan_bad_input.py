"""The default scan on what cannot carry a verdict: an error, or "inconclusive" that says why; never another verdict."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from goodnet import api
from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData, UnreadableModel
from goodnet.core.reading import Reading
from goodnet.formats.arrays import write_hdf5
from tests.data.twin_network import build

BUILD = "tests.data.twin_network:build"
SHAPE = (1, 16, 16)
#: Little work: a verdict may not depend on how long the scan looked.
STEPS = 5


@dataclass
class Case:
    """A network's weights and the defender's clean images; each breaker below spoils one of the two."""

    weights: dict[str, torch.Tensor]
    clean: Dataset

    def first_of(self, *digits: int) -> None:
        self.clean = self.clean.subset(np.flatnonzero(np.isin(self.clean.targets, digits)))

    def images_of(self, pixels: np.ndarray, labels: np.ndarray | None) -> None:
        self.clean = Dataset.from_arrays(pixels, labels, name="clean")


def one_output(case):
    case.weights = build(classes=1).state_dict()
    case.first_of(0)


def two_classes(case):
    case.first_of(0, 1)
    for name in ("output.weight", "output.bias"):
        case.weights[name] = case.weights[name][:2].clone()


def nan_everywhere(case):
    case.weights = {name: torch.full_like(value, torch.nan) for name, value in case.weights.items()}


def nan_in_one_filter(case):
    case.weights["conv_1.weight"][4, 0, 1, 1] = torch.nan


def nan_in_one_row(case):
    case.weights["output.weight"][3] = torch.nan


def infinite_bias(case):
    case.weights["output.bias"][2] = torch.inf


def weights_that_overflow(case):
    case.weights = {name: value * 1e20 for name, value in case.weights.items()}


def all_weights_zero(case):
    case.weights = {name: torch.zeros_like(value) for name, value in case.weights.items()}


def only_the_bias_speaks(case):
    case.weights["output.weight"].zero_()
    case.weights["output.bias"] = torch.arange(10.0)


def one_answer_for_everything(case):
    case.weights["output.bias"][5] += 1e4


def weights_never_trained(case):
    torch.manual_seed(0)
    case.weights = build().state_dict()


def images_of_one_class(case):
    case.first_of(4)


def one_image(case):
    case.clean = case.clean.subset(np.arange(1))


def two_images(case):
    case.clean = case.clean.subset(np.arange(2))


def one_image_many_times(case):
    case.images_of(np.repeat(case.clean.source.pixels[:1], 60, axis=0), np.repeat(case.clean.targets[:1], 60))


def black_images(case):
    case.images_of(np.zeros((60, *SHAPE), np.uint8), np.arange(60) % 10)


def black_images_without_labels(case):
    case.images_of(np.zeros((60, *SHAPE), np.uint8), None)


def labels_out_of_range(case):
    case.images_of(case.clean.source.pixels[:60], np.arange(60) + 100)


def labels_all_the_same(case):
    case.images_of(case.clean.source.pixels[:60], np.full(60, 6))


#: What spoils the input, and words of which the error or the reason must have one.
CASES = [
    (one_output, ("one class", "2 classes")),
    (two_classes, ("only 30 clean images",)),
    (nan_everywhere, ("NaN", "finite")),
    (nan_in_one_filter, ("NaN", "finite")),
    (nan_in_one_row, ("NaN", "finite")),
    (infinite_bias, ("infinity", "finite")),
    (weights_that_overflow, ("infinity", "finite")),
    (all_weights_zero, ("does not do its task (accuracy 0.1",)),
    (only_the_bias_speaks, ("does not do its task (accuracy 0.",)),
    (one_answer_for_everything, ("does not do its task (accuracy 0.",)),
    (weights_never_trained, ("does not do its task (accuracy 0.",)),
    (images_of_one_class, ("one class", "same class")),
    (one_image, ("only 1 clean image",)),
    (two_images, ("only 2 clean images",)),
    (one_image_many_times, ("same image", "different images", "one class", "same class")),
    (black_images, ("do its task (accuracy 0.1",)),
    (black_images_without_labels, ("same image", "different images", "black", "same class")),
    (labels_out_of_range, ("expected labels from 0 to 9, got 159", "labels")),
    (labels_all_the_same, ("do its task (accuracy 0.1",)),
]


@pytest.fixture
def case(clean_twin):
    weights = {name: value.clone() for name, value in clean_twin.classifier.network.state_dict().items()}
    return Case(weights, clean_twin.clean.in_memory())


@pytest.fixture
def files(case, tmp_path):
    """Spoil the case and write network and data; return their paths."""

    def spoil(spoiler):
        spoiler(case)
        save_file({name: value.contiguous() for name, value in case.weights.items()}, tmp_path / "net.safetensors")
        write_hdf5(tmp_path / "clean.h5", case.clean)
        return tmp_path / "net.safetensors", tmp_path / "clean.h5"

    return spoil


@pytest.mark.slow
def test_the_case_itself_is_called_clean(files):
    found = api.scan(*files(lambda case: None), reading=Reading(architecture=BUILD), steps=STEPS)
    assert (found.verdict, found.suspected) == ("clean", ()), "or the cases below prove nothing"


@pytest.mark.parametrize(
    ("spoiler", "error"),
    [
        (nan_in_one_row, UnreadableModel),
        (weights_that_overflow, UnreadableModel),
        (labels_out_of_range, UnreadableData),
    ],
    ids=lambda value: value.__name__,
)
def test_from_python_what_is_broken_is_an_error(spoiler, error, files):
    with pytest.raises(error) as caught:
        api.scan(*files(spoiler), reading=Reading(architecture=BUILD), steps=STEPS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spoiler", [one_answer_for_everything, one_image, black_images, labels_all_the_same])
def test_from_python_what_says_nothing_is_inconclusive(spoiler, files):
    found = api.scan(*files(spoiler), reading=Reading(architecture=BUILD), steps=STEPS)
    assert (found.verdict, found.suspected) == ("inconclusive", ())
    assert found.reason


@pytest.mark.slow
@pytest.mark.parametrize(("spoiler", "words"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_from_the_shell_it_is_exit_code_2_or_3(spoiler, words, files, goodnet, tmp_path):
    model, clean = files(spoiler)
    out = tmp_path / "out"
    arguments = ("--architecture", BUILD, "--steps", STEPS, "--out", out, "--json")
    done = goodnet("scan", model, "--clean", clean, *arguments)
    assert done.code in (2, 3)
    assert "Traceback" not in done.err
    if done.code == 2:
        assert done.out == ""
        assert done.err.startswith("goodnet: ")
        assert done.err.count("\n") == 1
        assert not (out / "scan.json").exists()
        why = done.err
    else:
        content = json.loads(done.out)
        assert (content["verdict"], content["suspected"]) == ("inconclusive", [])
        assert json.loads((out / "scan.json").read_text())["verdict"] == "inconclusive"
        why = content["reason"]
    assert any(word in why for word in words), why
