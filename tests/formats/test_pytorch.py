"""State dicts there and back, and the architectures that they need."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from goodnet.architectures import Architecture
from goodnet.core.classifier import Classifier
from goodnet.core.errors import InputError, InvalidOption, UnknownMethod, UnreadableModel
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module, read_state_dict
from goodnet.formats.weight_fit import class_counts
from tests.small_networks import Residual, settle

SHAPE = (3, 14, 14)
RESIDUAL = Architecture("residual", Residual)


def module() -> Residual:
    network = settle(Residual(5))
    assert isinstance(network, Residual)
    return network


def write(path: Path, state: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def read(path: Path) -> Any:
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)


def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return network(images)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_what_is_read_changed_and_written_is_the_changed_network(suffix: str, tmp_path: Path) -> None:
    network, images = module(), torch.rand(3, *SHAPE)
    path = write(tmp_path / f"net{suffix}", network.state_dict())
    content = path.read_bytes()
    classifier = read_state_dict(path, RESIDUAL, SHAPE)
    assert (classifier.classes, classifier.suffix, classifier.architecture) == (5, suffix, "residual")
    torch.testing.assert_close(logits_of(classifier, images), logits_of(network, images))
    with torch.no_grad():
        for value in classifier.network.state_dict().values():
            value.add_(0.1) if value.is_floating_point() else value.add_(1)
        for value in network.state_dict().values():
            value.add_(0.1) if value.is_floating_point() else value.add_(1)
    state = read(classifier.save(tmp_path / f"new{suffix}"))
    assert path.read_bytes() == content
    assert list(state) == list(read(path))
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    torch.testing.assert_close(logits_of(classifier, images), logits_of(network, images))
    again = read_state_dict(tmp_path / f"new{suffix}", RESIDUAL, SHAPE)
    assert torch.equal(logits_of(again, images), logits_of(classifier, images))


@pytest.mark.parametrize("key", ["net", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_a_checkpoint_keeps_all_else_that_it_held(key: str, prefix: str, tmp_path: Path) -> None:
    state = {prefix + name: value for name, value in module().state_dict().items()}
    ema = {"small": torch.ones(2)}
    path = write(tmp_path / "net.pth", {"epoch": 7, key: state, "acc": 0.5, "ema": ema, "note": ["a", 1]})
    classifier = read_state_dict(path, RESIDUAL, SHAPE)
    classifier.layer("stem").silence([2])
    saved = read(classifier.save(tmp_path / "new.pth"))
    assert (saved["epoch"], saved["acc"], saved["note"]) == (7, 0.5, ["a", 1])
    assert torch.equal(saved["ema"]["small"], ema["small"])
    assert list(saved[key]) == list(state)
    assert (saved[key][f"{prefix}stem.weight"][2] == 0).all()
    assert torch.equal(saved[key][f"{prefix}stem.weight"][3], state[f"{prefix}stem.weight"][3])


def broken(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    state = dict(module().state_dict())
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("stem.weight"), "1 missing, e.g. stem.weight"),
        (lambda s: s.update({"tail.weight": torch.ones(5, 5)}), "1 left over, e.g. tail.weight"),
        (
            lambda s: s.update({"stem.weight": torch.ones(6, 3, 5, 5)}),
            r"stem.weight \(6, 3, 5, 5\) instead of \(6, 3, 3, 3\)",
        ),
        (lambda s: s.update({"stem.bias": torch.full((6,), float("nan"))}), "found NaN or infinity"),
        (lambda s: s.update({"norm.running_var": torch.full((6,), float("inf"))}), "found NaN or infinity"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_that_do_not_fit(change: Callable[[Any], Any], words: str, suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"net{suffix}", broken(change))
    with pytest.raises(UnreadableModel, match=words) as caught:
        read_state_dict(path, RESIDUAL, SHAPE)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_older_files_without_the_batch_counter_are_read(tmp_path: Path) -> None:
    state = {name: value for name, value in module().state_dict().items() if "num_batches" not in name}
    path = write(tmp_path / "net.pt", state)
    classifier = read_state_dict(path, RESIDUAL, SHAPE)
    images = torch.rand(2, *SHAPE)
    torch.testing.assert_close(logits_of(classifier, images), logits_of(module(), images))
    assert list(read(classifier.save(tmp_path / "new.pt"))) == list(state)


@pytest.mark.parametrize("content", [{}, [torch.ones(2)], torch.ones(2), {"epoch": 3}, {"net": {}}, {"a": 1.5}, "text"])
def test_files_without_a_state_dict(content: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "net.pt", content)
    with pytest.raises(UnreadableModel, match=r"expected a state dict .*, got") as caught:
        read_state_dict(path, RESIDUAL, SHAPE)
    assert str(caught.value).startswith(f"{path}: ")


def test_the_image_size_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match="--image-shape C,H,W"):
        read_state_dict(write(tmp_path / "net.pt", module().state_dict()), RESIDUAL)


def test_classes_are_the_rows_of_the_last_matrix() -> None:
    weights = {
        "a": torch.ones(8, 3, 3, 3),
        "b": torch.ones(20, 8),
        "c": torch.ones(7, 20),
        "d": torch.ones(7),
    }
    assert class_counts(weights) == [7, 20]
    assert class_counts({"a": torch.ones(8, 3, 3, 3), "b": torch.ones(6, 8, 1, 1)}) == [6, 8]
    assert class_counts({"d": torch.ones(7)}) == [1]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_kernels_in_another_order_in_memory_are_written_in_torch_s_own(suffix: str, tmp_path: Path) -> None:
    network = module().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    expected = {name: value.contiguous() for name, value in network.state_dict().items()}
    saved = read(from_module(network, SHAPE, suffix=suffix).save(tmp_path / f"new{suffix}"))
    assert all(torch.equal(saved[name], value) for name, value in expected.items())
    assert all(value.is_contiguous() for value in saved.values())


class HeadFirstByName(nn.Module):
    """Its head comes first in a safetensors file, which sorts by name."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body, self.answer = nn.Linear(3, 8), nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.answer(torch.relu(self.body(images.mean(dim=(2, 3)))))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_classes_are_found_whatever_the_order_of_the_file(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"net{suffix}", HeadFirstByName(6).state_dict())
    assert read_state_dict(path, Architecture("a", HeadFirstByName), SHAPE).classes == 6


FACTORIES = """
import torch
from tests.small_networks import Residual, Untraceable

NUMBER = 3

def bare():
    return Residual(5)

def by_classes(classes):
    return Residual(classes)

def by_num_classes(num_classes, width=3):
    return Residual(num_classes)

def by_both(classes, image_shape):
    assert image_shape == (3, 14, 14)
    return Residual(classes)

def untraceable(classes):
    return Untraceable(classes)

def returns_none():
    return None

def fails(classes):
    raise RuntimeError("two\\nlines")

def needs_more(classes, depth):
    return Residual(classes)
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user in his working folder, which is not on the path."""
    folder = tmp_path / "work"
    folder.mkdir()
    name = f"own_networks_{abs(hash(str(tmp_path)))}"
    (folder / f"{name}.py").write_text(FACTORIES)
    (folder / f"{name}_broken.py").write_text("import nothing_of_this_name\n")
    (folder / f"{name}_misspelt.py").write_text("def build(:\n")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return name


@pytest.mark.parametrize("factory", ["bare", "by_classes", "by_num_classes", "by_both"])
def test_a_user_s_factory_gets_the_arguments_that_it_names(factory: str, factories: str, tmp_path: Path) -> None:
    path = write(tmp_path / "net.pt", module().state_dict())
    classifier = read_network(path, f"{factories}:{factory}", SHAPE)
    assert isinstance(classifier, Classifier)
    assert (classifier.classes, classifier.architecture) == (5, f"{factories}:{factory}")
    images = torch.rand(2, *SHAPE)
    torch.testing.assert_close(logits_of(classifier, images), logits_of(module(), images))


def test_a_network_that_cannot_be_traced_is_written_under_its_own_names(factories: str, tmp_path: Path) -> None:
    state = {"head.weight": torch.rand(4, 3), "head.bias": torch.rand(4)}
    classifier = read_network(write(tmp_path / "net.pt", state), f"{factories}:untraceable", SHAPE)
    with torch.no_grad():
        next(classifier.network.parameters()).zero_()
    saved = read(classifier.save(tmp_path / "new.pt"))
    assert list(saved) == list(state)
    assert (saved["head.weight"] == 0).all()
    assert torch.equal(saved["head.bias"], state["head.bias"])


@pytest.mark.parametrize(
    ("architecture", "error", "words"),
    [
        (None, UnreadableModel, "holds weights alone.*--architecture NAME .deepid"),
        ("resnet_of_dreams", UnknownMethod, "unknown architecture 'resnet_of_dreams'; known: deepid"),
        ("{}:absent", UnknownMethod, "has no attribute 'absent'"),
        ("{}:NUMBER", UnknownMethod, "'NUMBER' is not callable"),
        ("no_such_module_here:build", UnknownMethod, "No module named 'no_such_module_here'"),
        (":build", UnknownMethod, "expected package.module:factory"),
        ("{}_broken:build", UnknownMethod, "nothing_of_this_name"),
        ("{}_misspelt:build", UnknownMethod, "expected package.module:factory"),
        ("{}:returns_none", InvalidOption, "must return a torch.nn.Module, got NoneType"),
        ("{}:fails", InvalidOption, "failed for 5 classes and images .3, 14, 14.: two lines"),
        ("{}:needs_more", InvalidOption, "depth"),
        ("builtins:dict", InvalidOption, "architecture 'builtins:dict'"),
    ],
)
def test_architectures_that_cannot_be_used(
    architecture: str | None, error: type[InputError], words: str, factories: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "net.pt", module().state_dict())
    with pytest.raises(error, match=words) as caught:
        read_network(path, architecture and architecture.format(factories), SHAPE)
    assert "\n" not in str(caught.value)
