"""Whether weights fit, and what is said where they do not."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from goodnet.architectures import Architecture
from goodnet.formats.pytorch import read_state_dict
from goodnet.formats.weight_fit import Builds, compare, describe_misfit


class Tied(nn.Module):
    """Uses one matrix twice."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, classes)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.second(self.first(images.mean(dim=(2, 3)))))


def test_words_for_a_misfit_are_counts_and_the_nearest_names() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    good = module.state_dict()
    assert compare(good, module).exact
    for weights, words in (
        (
            {f"body.{n}": v for n, v in good.items()},
            "4 missing, 4 left over, e.g. the file has 'body.0.weight', the architecture expects '0.weight'",
        ),
        ({**good, "1.weight": torch.ones(5, 4)}, "1 of another shape, e.g. 1.weight (5, 4) instead of (2, 4)"),
        (
            {**good, "1.weight": good["1.weight"].to(torch.int8)},
            "1 of another shape, e.g. 1.weight int8 (2, 4) instead of float32 (2, 4)",
        ),
        ({n: v for n, v in good.items() if n != "0.bias"}, "1 missing, e.g. 0.bias"),
        ({**good, "2.bias": torch.ones(2)}, "1 left over, e.g. 2.bias"),
        (
            {"0.weight": good["0.weight"], "x\ny": torch.ones(2)},
            r"3 missing, 1 left over, e.g. the file has 'x\ny', the architecture expects '0.bias'",
        ),
    ):
        assert describe_misfit(compare(weights, module), weights, module) == words


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("once", [False, True])
def test_a_matrix_that_a_network_uses_twice(suffix: str, once: bool, tmp_path: Path) -> None:
    module = Tied()
    weights = {
        name: value.clone() for name, value in module.state_dict().items() if not (once and name == "second.weight")
    }
    path = tmp_path / f"net{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights if once else module.state_dict(), path)
    classifier = read_state_dict(path, Architecture("tied", Tied), (3, 4, 4))
    images = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(classifier(images), module(images))
    with torch.no_grad():
        next(classifier.network.parameters()).mul_(2)
        module.first.weight.mul_(2)
    written = classifier.save(tmp_path / f"new{suffix}")
    saved = load_file(written) if suffix == ".safetensors" else torch.load(written, weights_only=True)
    assert set(saved) == set(weights)
    again = read_state_dict(written, Architecture("tied", Tied), (3, 4, 4))
    torch.testing.assert_close(again(images), module(images))


def test_a_network_is_built_once_for_each_number_of_classes() -> None:
    built = []

    def build(classes: int) -> nn.Module:
        built.append(classes)
        return Tied(classes)

    builds = Builds(Architecture("tied", build), (3, 4, 4))
    for classes in (3, 7, 3, 7):
        assert compare(Tied(classes).state_dict(), builds.fitting(Tied(classes).state_dict())).exact
    assert built == [3, 7]
